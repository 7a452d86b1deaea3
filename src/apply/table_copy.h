#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "model/checkpoint.h"
#include "model/segment.h"
#include "model/table_schema.h"

namespace etl {

/// Where the copy of one table stands (copy and fold, correctness section 3). Pure: says what is to
/// be asked, read or folded next, and is told what came of it; does no I/O. Owned and called by the
/// reader.
///
/// barrier (C2) → plan (C3) → reading chunks (C4, C5) → fold (C6), with rounds of settling where
/// values were never sent.
class TableCopy {
 public:
  enum class Stage : uint8_t {
    kBarrier,
    kPlan,
    kRead,
    kFold,
    kFolding,
    kSettleWait,
    kSettleRead,
    kSettleCatchUp
  };

  /// A new copy that begins at boundary `from`.
  TableCopy(uint32_t generation, Lsn from) : generation_(generation), from_(from) {}
  /// A copy that was interrupted: only its unfinished chunks are read again (C8).
  static TableCopy Resume(const TableCheckpoint& checkpoint);

  Stage stage() const { return stage_; }
  uint32_t generation() const { return generation_; }
  Lsn from() const { return from_; }

  /// C2: the first answer fixes who is waited for; later ones tell who is still there. True once
  /// the barrier is passed.
  bool OnLockHolders(const std::vector<std::string>& holders);
  /// C3. An empty plan is a table without rows to read.
  void OnPlan(std::vector<Chunk> chunks);

  /// The next chunk nobody reads yet; marks it as being read.
  std::optional<Chunk> NextChunk();
  /// A chunk's reading was given up (the copier failed or another chunk moved): it is read again.
  void OnChunkAbandoned(uint32_t number);
  /// All its rows are on their way; `high` is H.
  void OnChunkRead(uint32_t number, Lsn high, int64_t rows);
  /// Stored at the destination.
  void OnChunkDurable(uint32_t number);

  /// Whether the fold may be asked for: every chunk is stored, the stored position reached max H,
  /// and rows that were read again are with the destination.
  bool ReadyToFold(Lsn durable) const { return stage_ == Stage::kFold && durable >= until_; }
  void OnFoldAsked() { stage_ = Stage::kFolding; }
  /// The fold found values that were never sent: they are read again by key.
  void OnMissing(FoldResult missing);
  const FoldResult& missing() const { return *missing_; }
  void OnXidsVisible() { stage_ = Stage::kSettleRead; }
  /// The keys of the next reading: as many as have rows of a few megabytes, judged by those so far.
  std::shared_ptr<arrow::RecordBatch> KeysToRead() const;
  /// It has begun, with this version of the table.
  void OnSettleReading(TableSchemaPtr schema);
  /// A part of its rows. They are kept until they count.
  void OnSettledRows(std::shared_ptr<arrow::RecordBatch> rows, int64_t bytes);
  /// All of its rows came; `high` is H.
  void OnSettled(Lsn high) { settle_high_ = high; }
  /// S3: whether the rows of the reading count now, because the stored position reached its H.
  bool SettledCount(Lsn durable) const {
    return stage_ == Stage::kSettleCatchUp && settle_high_.has_value() && durable >= *settle_high_;
  }
  /// The next part of them, for the destination; with the last one it goes on to the next keys, or
  /// to the fold. None if there are none, or if the table has another version than the one that was
  /// read: then the same keys are read again. Call only when SettledCount.
  std::optional<SettledRows> NextSettled(const TableSchemaPtr& now);

  /// The lowest stored position at which the fold is exact.
  Lsn until() const { return until_; }
  int64_t rows_read() const { return rows_read_; }
  int64_t rows_estimate() const { return rows_estimate_; }
  size_t chunks() const { return chunks_.size(); }
  const std::vector<std::string>& waiting_for() const { return waiting_for_; }
  /// For tables copied under a slot's snapshot: the consistent point (FoldRequest::ignore_below).
  void set_ignore_below(Lsn lsn) { ignore_below_ = lsn; }
  Lsn ignore_below() const { return ignore_below_; }

  // When the last question about this copy was asked, and whether its answer is still out. Kept for
  // the driver.
  bool asked = false;
  Instant ask_again{};

 private:
  void OnKeysSettled();
  enum class ChunkState : uint8_t { kTodo, kReading, kRead, kDurable };
  struct Entry {
    Chunk chunk;
    ChunkState state = ChunkState::kTodo;
    int64_t rows = 0;
  };
  void MaybeFold();

  uint32_t generation_;
  Lsn from_;
  Stage stage_ = Stage::kBarrier;
  bool barrier_known_ = false;
  std::vector<std::string> waiting_for_;
  std::vector<Entry> chunks_;
  Lsn until_;
  Lsn ignore_below_;
  int64_t rows_read_ = 0;
  int64_t rows_estimate_ = 0;
  std::optional<FoldResult> missing_;
  int64_t settle_first_ = 0;  ///< of the missing keys, the first one of the reading
  int64_t settle_keys_ = 0;   ///< so many does the reading have
  TableSchemaPtr settle_schema_;
  std::deque<std::shared_ptr<arrow::RecordBatch>> settled_;
  int64_t settled_bytes_ = 0;
  std::optional<Lsn> settle_high_;
};

}  // namespace etl

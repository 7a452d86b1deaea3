#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "destination/destination.h"
#include "destination/duckdb/change_columns.h"
#include "destination/duckdb/duckdb_apply.h"
#include "destination/duckdb/duckdb_bookkeeping.h"
#include "destination/duckdb/duckdb_file.h"

namespace etl {

/// One pipeline's tables in a DuckDB file. Each piece of a segment is applied at once inside an
/// open DuckDB transaction, which COMMITs, together with the position, at the piece that completes
/// it; rows of chunks wait in transactions of their own connections, a few chunks in each. After
/// any error everything open is rolled back and only Start, on a new object, goes on.
///
/// Owned and called by the writer thread. A crash at any moment leaves the state before or after
/// one such transaction.
class DuckDbDestination : public Destination {
 public:
  DuckDbDestination(std::shared_ptr<DuckDbFile> file, const Clock& clock);
  ~DuckDbDestination() override;

  Result<Checkpoint> Start(const StartOptions& options) override;
  Status BeginHistory(const NewHistory& history) override;
  Status AbandonCopies(const std::vector<TableId>& tables) override;
  Status SetTimeline(uint32_t timeline) override;
  bool Ready(Instant now) const override;
  Status Accept(Delivery delivery) override;
  Result<Progress> Advance(Instant now) override;
  Status Read(const ReadOptions& options) override;
  Status Forget() override;
  void Interrupt() override;
  Status Shutdown(Instant deadline) override;

  /// Closes this pipeline's connections; the next work opens them again. Only between destination
  /// transactions.
  void CloseFile();

 private:
  using TableState = DuckDbTableState;
  struct Diverged {
    TableId table;
    std::string why;
  };
  /// Chunks of one table in one open transaction of their own connection: those that are complete,
  /// and at most one whose rows are still coming.
  struct ChunkGroup {
    TableId table;
    uint32_t generation = 0;
    std::unique_ptr<DuckDbConnection> connection;
    std::vector<TableCheckpoint::DoneChunk> complete;
    int64_t complete_rows = 0;
    int64_t bytes = 0;
    Instant complete_since{};
    struct Coming {
      uint32_t chunk = 0;
      uint32_t attempt = 0;
      int64_t rows = 0;
    };
    std::optional<Coming> coming;
  };

  // duckdb_destination.cc
  Status OpenFile();
  Status Execute(Delivery& delivery, Progress* progress);
  Status Fail(Status status);
  Status InTransaction(const std::function<Status()>& work, const char* before_commit,
                       const char* after_commit);
  void Undo();
  void Remember(TableId table);
  TableState* Find(TableId table);
  TableState& Make(TableId table);
  Status CheckpointIfNeeded(const Segment* before = nullptr);
  /// The memory that so many deleted rows of each table hold.
  int64_t HeldBy(const std::map<uint32_t, int64_t>& deleted) const;
  Status CountRows();
  bool ReleaseDue(Instant now) const;
  Instant ChunksDue() const;

  // duckdb_segment.cc
  Status ApplySegment(Segment& segment, Progress* progress);
  Result<std::optional<Diverged>> ApplyParts(Segment& segment, Progress* progress);
  Result<std::optional<Diverged>> Apply(const ChangeBatch& batch);
  Result<DeleteLimit> LimitFor(const TableState& table, int64_t changes);
  Status ApplyTruncate(const TruncateChange& truncate);
  Status ApplySchema(const SchemaChange& change, Progress* progress);
  Status VoidEarlierRows(const TableState& table);
  Status ApplyCopyStart(const CopyStart& start, Progress* progress);
  Status ApplyPlan(const CopyPlan& plan);
  /// `progress`: the reader learns of it; null when it ordered the stop itself.
  Status ApplyStop(const TableStop& stop, Progress* progress);
  Status SetAside(const Diverged& diverged, Progress* progress);
  std::optional<std::string> TooWide(const TableSchema& schema) const;
  Result<std::optional<std::string>> WhyRefused(const TableSchema& schema);
  Status RenameTarget(TableState& table, const std::string& schema, const std::string& name);
  Status CreateTarget(TableState& table);
  /// `append`: the target of a stopped table that had the name before becomes that of `table`;
  /// `before` gets its columns, with the attnums of those that go on. Nothing if there is none.
  Status TakeOver(TableState& table, TableSchemaPtr* before);
  Status DropCopy(TableState& table);
  bool StoresPending(const TableState& table) const;
  bool StoresTarget(const TableState& table) const;

  // duckdb_copy.cc
  Status ApplyChunk(ChunkRows& rows, Progress* progress);
  Result<ChunkGroup*> GroupFor(const ChunkRows& rows);
  /// Of the rows that the engine makes for an append table when it is copied.
  static uint64_t FirstOrdinal(const TableState& table);
  Status WriteChunk(const TableState& table, const ChunkRows& rows, ChunkGroup* group);
  static int64_t HeldBytes(const ChunkGroup& group);
  bool WorthStoring(const TableState& table, const ChunkGroup& group) const;
  Status StoreGroup(ChunkGroup& group, Progress* progress);
  Status StoreCompleteGroups(Progress* progress);
  Status ApplySettled(const SettledRows& rows);
  Result<std::optional<DuckDbTable>> SettledOf(const TableState& table);
  Status ApplyFold(const FoldRequest& request, Progress* progress);
  Status FinishFold(TableState& table, FoldResult* result);
  Status MoveShadow(TableState& table);
  void DropOpenChunks(TableId table);
  bool HasOpenChunks(TableId table) const;
  Result<std::unique_ptr<DuckDbConnection>> SideConnection();

  const std::shared_ptr<DuckDbFile> file_;
  const Clock& clock_;
  StartOptions options_;
  DuckDbBookkeeping books_;

  std::mutex interrupt_mutex_;  // Guards interruptible_, against a connection that is being closed.
  duckdb_connection interruptible_ = nullptr;

  std::unique_ptr<DuckDbFile::Lease> lease_;  // Outlives all connections.
  std::unique_ptr<DuckDbConnection> connection_;
  std::vector<std::unique_ptr<DuckDbConnection>> idle_sides_;
  std::vector<ChunkGroup> groups_;

  Checkpoint progress_;  // Without its tables.
  std::map<uint32_t, TableState> tables_;
  std::map<uint32_t, std::optional<TableState>> undo_;  // As before the open transaction.
  std::map<uint32_t, FillValues> fills_;  // Of columns added since Start, for chunks read before.
  std::set<uint32_t> changed_;            // Tables with changes in the open transaction.
  int pieces_ = 0;                        // Applied in the open transaction.
  int64_t rows_in_transaction_ = 0;

  std::optional<Delivery> delivery_;
  std::deque<FoldRequest> folds_;  // Asked for while a segment was incomplete.
  /// Rows deleted from each table since the last CHECKPOINT: every vector that they touch holds
  /// memory until the next.
  std::map<uint32_t, int64_t> deleted_;
  /// A table was built anew: the space of the old one is free only after a CHECKPOINT.
  bool rebuilt_ = false;
  bool started_ = false;
  bool failed_ = false;
  Instant ready_at_{};
  Instant last_work_{};
};

}  // namespace etl

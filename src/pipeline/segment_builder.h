#pragma once

#include <cstdint>
#include <vector>

#include "base/clock.h"
#include "model/segment.h"
#include "pipeline/table_book.h"

namespace etl {

/// The segment that is being filled. Keeps the order of parts within a table: rows gathered so far
/// are sealed into the segment before a truncate, schema change or command of the same table is
/// added. Owned by the reader.
class SegmentBuilder {
 public:
  /// A row was appended to the table's batcher.
  void OnRow(TableRuntime& table) {
    ++rows_;
    ++table.changes;
    if (!table.dirty) {
      table.dirty = true;
      dirty_.push_back(&table);
    }
  }
  /// Adds a part of this table after its rows so far.
  Status Add(TableRuntime& table, SegmentPart part);
  /// Forgets the table's rows that are not sealed yet, with its batcher.
  void Drop(TableRuntime& table);
  /// A transaction ended; its rows may be handed over.
  void OnCommit(UnixMicros commit_time, Instant now);

  bool empty() const { return rows_ == 0 && parts_.empty(); }
  int64_t rows() const { return rows_; }
  /// Memory held, about.
  int64_t bytes() const;
  /// When its first commit was received whole; kNever if there is none.
  Instant first_commit() const { return first_commit_; }

  /// Hands over everything gathered. Rows of all tables are sealed.
  Result<Segment> Take(bool complete, Lsn end, Instant now);

 private:
  Status SealTable(TableRuntime& table);

  std::vector<SegmentPart> parts_;
  std::vector<TableRuntime*> dirty_;
  int64_t rows_ = 0;
  int64_t sealed_bytes_ = 0;
  UnixMicros last_commit_time_ = 0;
  Instant first_commit_ = kNever;
};

}  // namespace etl

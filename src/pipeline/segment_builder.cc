#include "pipeline/segment_builder.h"

#include <algorithm>
#include <utility>

namespace etl {

Status SegmentBuilder::Add(TableRuntime& table, SegmentPart part) {
  ETL_RETURN_IF_ERROR(SealTable(table));
  parts_.push_back(std::move(part));
  return Status::OK();
}

void SegmentBuilder::Drop(TableRuntime& table) {
  if (table.dirty) std::erase(dirty_, &table);
  table.dirty = false;
  table.DropBatcher();
}

void SegmentBuilder::OnCommit(UnixMicros commit_time, Instant now) {
  last_commit_time_ = commit_time;
  if (first_commit_ == kNever) first_commit_ = now;
}

int64_t SegmentBuilder::bytes() const {
  int64_t bytes = sealed_bytes_;
  for (const TableRuntime* table : dirty_) bytes += table->batcher->bytes();
  return bytes;
}

Status SegmentBuilder::SealTable(TableRuntime& table) {
  if (!table.dirty) return Status::OK();
  table.dirty = false;
  std::erase(dirty_, &table);
  ETL_ASSIGN_OR_RETURN(ChangeBatch batch, table.batcher->Seal());
  sealed_bytes_ += batch.bytes;
  parts_.emplace_back(std::move(batch));
  return Status::OK();
}

Result<Segment> SegmentBuilder::Take(bool complete, Lsn end, Instant now) {
  while (!dirty_.empty()) ETL_RETURN_IF_ERROR(SealTable(*dirty_.back()));
  Segment segment;
  segment.parts = std::exchange(parts_, {});
  segment.complete = complete;
  segment.end = end;
  segment.rows = std::exchange(rows_, 0);
  segment.bytes = std::exchange(sealed_bytes_, 0);
  segment.last_commit_time = last_commit_time_;
  segment.received = first_commit_ == kNever ? now : std::exchange(first_commit_, kNever);
  return segment;
}

}  // namespace etl

// _ETL_PROGRESS stays small: now and then all that counts is written once more, and what lies
// before goes. The repetition counts by itself, so a run that begins at any moment in between reads
// the same.

#include <algorithm>

#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

/// Of one request, which has a limit of four million.
constexpr size_t kBytesOfPart = 1000000;

}  // namespace

Status SnowflakeDestination::Purge(Instant now, bool* worked) {
  ETL_RETURN_IF_ERROR(purge_.status);
  if (purge_.running) return Status::OK();
  if (purge_.proved) {
    purge_.running = true;
    link_->sql().Run(
        link_->Request("purge _ETL_PROGRESS",
                       PurgeProgressSql(names_, start_.pipeline, purge_.first, purge_.at)),
        [this](const SqlOutcome& outcome, Instant) {
          rows_logged_ = static_cast<int64_t>(sequence_ - purge_.first + 1);
          purge_ = {};
          purge_.status = outcome.status;
        },
        now);
    *worked = true;
    return Status::OK();
  }
  if (purge_.first != 0 || rows_logged_ < options_.purge_rows || !stored_.identity.has_value())
    return Status::OK();
  // What is known of the tables here must be what the log comes to when all that was written is in
  // it: no record may still wait for its boundary, and no chunk for its proof.
  const bool waits =
      !changed_.empty() ||
      std::any_of(tables_.begin(), tables_.end(),
                  [](const auto& entry) { return entry.second.still; }) ||
      std::any_of(boundaries_.begin(), boundaries_.end(),
                  [](const Boundary& boundary) { return !boundary.records.empty(); }) ||
      std::any_of(written_.begin(), written_.end(),
                  [](const Written& written) { return !written.chunks.empty(); });
  // The repetition begins like a run: guards of statements that are prepared would take it for one.
  if (waits || job_.has_value() || !cursor_.sql.empty()) return Status::OK();
  *worked = true;
  return WriteWhole();
}

Status SnowflakeDestination::WriteWhole() {
  std::vector<SnowflakeTableState> made;  // What counts of them is not stored yet.
  std::vector<const SnowflakeTableState*> tables;
  made.reserve(tables_.size());
  for (const auto& [oid, table] : tables_) {
    if (table.known) {
      tables.push_back(&table.state);
    } else if (table.state.landing != nullptr) {
      made.push_back(table.state);
      made.back().checkpoint.schema = nullptr;
      tables.push_back(&made.back());
    }
  }
  Checkpoint stored = stored_;
  stored.position = forward_written_;
  purge_.first = sequence_ + 1;
  purge_.at = clock_.WallNow();
  std::vector<ProgressRecord> part;
  size_t bytes = 0;
  for (ProgressRecord& record : ProgressLog::Whole(stored, tables)) {
    if (bytes > 0 && bytes + record.body.size() > kBytesOfPart) {
      ETL_RETURN_IF_ERROR(WriteRecords(std::exchange(part, {}), {}, {}));
      bytes = 0;
    }
    bytes += record.body.size();
    part.push_back(std::move(record));
  }
  ETL_RETURN_IF_ERROR(WriteRecords(part, {}, {}));
  written_.back().whole = true;
  return Status::OK();
}

}  // namespace etl

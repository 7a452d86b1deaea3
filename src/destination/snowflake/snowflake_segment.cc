// What an accepted delivery does, in steps: each ends where something has to be waited for.

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/snowflake_destination.h"
#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

Status NotYet(const TableSchema& schema, std::string what) {
  return MakeError(ErrorKind::kConfig, "ETL-C040",
                   schema.QualifiedName() +
                       ": this version does not carry out in Snowflake: " + std::move(what));
}

}  // namespace

/// Both versions have the same columns in Snowflake, in the same table.
bool SnowflakeDestination::SameLanding(const TableSchema& a, const TableSchema& b) {
  return a.schema == b.schema && a.name == b.name &&
         std::equal(a.columns.begin(), a.columns.end(), b.columns.begin(), b.columns.end(),
                    [](const Column& x, const Column& y) {
                      return x.attnum == y.attnum && x.name == y.name &&
                             SnowflakeType(*x.type) == SnowflakeType(*y.type);
                    });
}

SnowflakeDestination::Table* SnowflakeDestination::Find(TableId table) {
  const auto at = tables_.find(table.oid);
  return at == tables_.end() ? nullptr : &at->second;
}

bool SnowflakeDestination::Stores(const Table& table) const {
  const TablePhase phase = table.state.checkpoint.phase;
  return phase == TablePhase::kCopying || phase == TablePhase::kLive;
}

/// Until some of it is proved, nothing more is given to channels: a delivery may be of any size.
bool SnowflakeDestination::Full() const { return bytes_ >= options_.bytes_max; }

void SnowflakeDestination::Remember(const Table& table) {
  changed_.insert(table.state.checkpoint.schema->id.oid);
}

Result<bool> SnowflakeDestination::Execute(Instant now, bool* worked) {
  if (auto* segment = std::get_if<Segment>(&*delivery_)) return ApplySegment(*segment, now, worked);
  if (const auto* chunk = std::get_if<ChunkRows>(&*delivery_))
    return ApplyChunk(*chunk, now, worked);
  if (std::holds_alternative<SettledRows>(*delivery_)) return true;
  deferred_.push_back(std::get<FoldRequest>(*delivery_));
  return true;
}

Result<bool> SnowflakeDestination::ApplySegment(Segment& segment, Instant now, bool* worked) {
  while (cursor_.part < segment.parts.size()) {
    ETL_ASSIGN_OR_RETURN(const bool done,
                         std::visit([&](const auto& part) { return Apply(part, now, worked); },
                                    segment.parts[cursor_.part]));
    if (!done) return false;
    const size_t next = cursor_.part + 1;
    cursor_ = Cursor();
    cursor_.part = next;
  }
  inside_ = !segment.complete;
  if (inside_) return true;
  if (segment.awaited) awaited_ = std::max(awaited_, segment.end);
  Boundary boundary{.end = segment.end, .owed = {}, .records = {}};
  for (const auto& [oid, table] : tables_) {
    for (size_t i = 0; i < table.channels.size(); ++i) {
      const TableChannel& channel = table.channels[i];
      if (channel.owed() > channel.proved) boundary.owed.push_back({oid, i, channel.owed()});
    }
  }
  for (const uint32_t oid : changed_)
    boundary.records.push_back(ProgressLog::Table(tables_.at(oid).state, /*immediate=*/false));
  changed_.clear();
  if (segment.end > given_end_ || !boundary.records.empty() || !boundary.owed.empty()) {
    given_end_ = std::max(given_end_, segment.end);
    boundaries_.push_back(std::move(boundary));
  }
  return true;
}

/// Runs cursor_.sql, one after the other; each may be run again after a crash.
Result<bool> SnowflakeDestination::RunSql(const std::string& what, Instant now, bool* worked) {
  if (outcome_.has_value()) {
    ETL_RETURN_IF_ERROR(ForgiveSchema(cursor_.sql[cursor_.next_sql], outcome_->status));
    sql_ = 0;
    if (++cursor_.next_sql < cursor_.sql.size()) outcome_.reset();
  }
  if (cursor_.next_sql >= cursor_.sql.size()) return true;
  if (sql_ != 0) return false;
  ETL_FAILPOINT("snowflake.sql.before");
  sql_ = link_->sql().Run(
      link_->Request(what, cursor_.sql[cursor_.next_sql]),
      [this](SqlOutcome outcome, Instant) { outcome_ = std::move(outcome); }, now);
  *worked = true;
  return false;
}

Result<bool> SnowflakeDestination::Apply(const ChangeBatch& batch, Instant now, bool* worked) {
  Table* table = Find(batch.schema->id);
  if (table == nullptr || !Stores(*table)) return true;
  ETL_ASSIGN_OR_RETURN(const bool open, OpenTable(*table, now, worked));
  if (!open || !SpreadStored(*table, batch.transactions.back().commit)) return false;
  if (table->writer_schema != batch.schema &&
      !SameLanding(*batch.schema, *table->state.checkpoint.schema))
    return NotYet(*batch.schema, "rows of an older version of the table");
  std::vector<RowWriter*> writers;
  for (TableChannel& channel : ChannelsOf(*table)) {
    ETL_ASSIGN_OR_RETURN(RowWriter* const writer, WriterOf(*table, channel, batch.schema));
    ETL_RETURN_IF_ERROR(writer->Bind(batch));
    writers.push_back(writer);
  }
  spreader_.Bind(batch);
  holding_.insert(batch.schema->id.oid);
  int64_t& row = cursor_.row;
  for (const TransactionRun& run : batch.transactions) {
    const uint32_t channels = ChannelsAt(table->state.spreads, run.commit);
    table->newest = std::max(table->newest, run.commit);
    while (row < run.end_row) {
      if (Full()) return false;
      const size_t at = spreader_.Channel(row, run.commit, channels);
      TableChannel& channel = table->channels[at];
      if (Landed(*table, channel, {run.commit, batch.ordinals[static_cast<size_t>(row)]})) {
        ++row;
        continue;
      }
      ETL_ASSIGN_OR_RETURN(const bool added, writers[at]->Add(row));
      if (added) {
        ++row;
      } else if (Behind(channel)) {
        // What is not taken yet goes over more channels, once there are more.
        return false;
      } else {
        ETL_RETURN_IF_ERROR(Flush(*table, channel));
      }
    }
  }
  return true;
}

Result<bool> SnowflakeDestination::Apply(const TruncateChange& truncate, Instant now,
                                         bool* worked) {
  Table* table = Find(truncate.schema->id);
  if (table == nullptr || !Stores(*table)) return true;
  ETL_ASSIGN_OR_RETURN(const bool open, OpenTable(*table, now, worked));
  if (!open) return false;
  table->newest = std::max(table->newest, truncate.at.commit);
  TableChannel& channel = table->channels.front();
  if (Landed(*table, channel, truncate.at)) return true;
  ETL_ASSIGN_OR_RETURN(RowWriter* const writer, WriterOf(*table, channel, truncate.schema));
  holding_.insert(truncate.schema->id.oid);
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool added, writer->AddTruncate(truncate));
    if (added) return true;
    ETL_RETURN_IF_ERROR(Flush(*table, channel));
  }
}

Result<bool> SnowflakeDestination::Apply(const SchemaChange& change, Instant, bool*) {
  Table* table = Find(change.to->id);
  if (table == nullptr) return true;
  if (Stores(*table) && !SameLanding(*table->state.checkpoint.schema, *change.to))
    return NotYet(*change.to, "changes of columns");
  table->state.checkpoint.schema = change.to;
  Remember(*table);
  return true;
}

Result<bool> SnowflakeDestination::Apply(const CopyStart& start, Instant now, bool* worked) {
  Table& table = tables_[start.schema->id.oid];
  if (cursor_.step == 0) {
    ETL_ASSIGN_OR_RETURN(const bool closed, CloseTable(table));
    if (!closed) return false;
    if (Busy(start.schema->id)) return false;
    table.still = true;
    CloseLanes(table);
    const SnowflakeTable of = Of(start.schema, start.generation);
    cursor_.sql = CreateSchemasSql(names_, *start.schema);
    if (start_.mode == Mode::kMirror) {
      for (std::string& sql : Fence(table)) cursor_.sql.push_back(std::move(sql));
      cursor_.sql.push_back(EndEarlierSql(of));
      // Its channels end with it. What it holds is of an earlier generation, or comes again.
      cursor_.sql.push_back("DROP TABLE IF EXISTS " + names_.Landing(*start.schema).Sql());
      cursor_.sql.push_back(DropShadowSql(of));
      // One of a run that ended before this was stored may have begun elsewhere.
      cursor_.sql.push_back(ForgetCopyingSql(of));
      cursor_.sql.push_back(InsertWatermarkSql(of, start.from, /*live=*/false));
    } else if (table.state.landing != nullptr &&
               !SameLanding(*table.state.landing, *start.schema)) {
      return NotYet(*start.schema, "another copy into a landing table of other columns");
    }
    cursor_.sql.push_back(CreateLandingSql(of));
    cursor_.step = 1;
  }
  ETL_ASSIGN_OR_RETURN(const bool done, RunSql("make the landing table", now, worked));
  if (!done) return false;
  outcome_.reset();
  table.state.checkpoint = TableCheckpoint{.schema = start.schema,
                                           .generation = start.generation,
                                           .phase = TablePhase::kCopying,
                                           .from = start.from,
                                           .keep_target = start.keep_target};
  table.state.landing = start.schema;
  // The step may be a repeated one, of a run that ended before the boundary behind it was stored.
  table.loaded = true;
  table.landed.clear();
  table.mark.clear();
  table.applied = start.from;
  table.newest = {};
  table.state.attempts.clear();
  table.still = false;
  table.state.spreads.clear();
  Remember(table);
  return true;
}

Result<bool> SnowflakeDestination::Apply(const CopyPlan& plan, Instant, bool*) {
  Table* table = Find(plan.table);
  if (table == nullptr || table->state.checkpoint.generation != plan.generation ||
      table->state.checkpoint.phase != TablePhase::kCopying)
    return true;
  table->state.checkpoint.planned = true;
  table->state.checkpoint.chunks = plan.chunks;
  Remember(*table);
  return true;
}

Result<bool> SnowflakeDestination::Apply(const TableStop& stop, Instant, bool*) {
  Table* table = Find(stop.table);
  if (table == nullptr || table->state.checkpoint.schema == nullptr) return true;
  ETL_RETURN_IF_ERROR(Flush(*table));
  TableCheckpoint& checkpoint = table->state.checkpoint;
  checkpoint.phase = TablePhase::kStopped;
  checkpoint.planned = false;
  checkpoint.chunks.clear();
  checkpoint.done.clear();
  checkpoint.stop_code = stop.code;
  checkpoint.stop_reason = stop.reason;
  Remember(*table);
  return true;
}

Result<bool> SnowflakeDestination::Apply(const TableFingerprint& fingerprint, Instant, bool*) {
  Table* table = Find(fingerprint.table);
  if (table == nullptr || table->state.checkpoint.schema == nullptr) return true;
  table->state.checkpoint.fingerprint = fingerprint.text;
  Remember(*table);
  return true;
}

}  // namespace etl

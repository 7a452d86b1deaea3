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

bool SnowflakeDestination::Landed(const Table& table, const Position& position) const {
  if (position <= table.committed) return true;
  return !table.landed.empty() && table.landed.contains(PositionText(position));
}

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
  // Rows of a piece are given to the channels at once: its batches do not outlive it.
  for (auto& [oid, table] : tables_) ETL_RETURN_IF_ERROR(Flush(table));
  inside_ = !segment.complete;
  if (inside_) return true;
  Boundary boundary{.end = segment.end, .given = {}, .records = {}};
  for (const auto& [oid, table] : tables_) {
    if (table.given > table.proved) boundary.given[oid] = table.given;
  }
  for (const uint32_t oid : changed_)
    boundary.records.push_back(ProgressLog::Table(tables_.at(oid).state, /*immediate=*/false));
  changed_.clear();
  if (segment.end > given_end_ || !boundary.records.empty() || !boundary.given.empty()) {
    given_end_ = std::max(given_end_, segment.end);
    boundaries_.push_back(std::move(boundary));
  }
  return true;
}

Status SnowflakeDestination::Flush(Table& table) {
  if (table.writer == nullptr || table.writer->empty()) return Status::OK();
  ETL_ASSIGN_OR_RETURN(RequestBody body, table.writer->Take());
  const int64_t size = static_cast<int64_t>(body.bytes.size());
  ++table.given;
  table.sizes.push_back(size);
  bytes_ += size;
  ETL_FAILPOINT("snowflake.data.before_append");
  link_->streaming().Append(table.channel, BatchOf(std::move(body)));
  return Status::OK();
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

/// Everything given is proved, and the channel is closed: the table may be changed.
Result<bool> SnowflakeDestination::CloseTable(Table& table) {
  ETL_RETURN_IF_ERROR(Flush(table));
  if (table.channel == 0) return true;
  if (!table.open || table.given > table.proved) return false;
  link_->streaming().CloseChannel(table.channel);
  table_of_.erase(table.channel);
  table.channel = 0;
  table.open = false;
  table.writer.reset();
  return true;
}

Result<bool> SnowflakeDestination::OpenTable(Table& table, Instant now, bool* worked) {
  const TableCheckpoint& checkpoint = table.state.checkpoint;
  if (table.channel == 0) {
    const SnowflakeName pipe = names_.Pipe(*checkpoint.schema);
    table.channel = link_->streaming().OpenChannel(
        {.database = pipe.database,
         .schema = pipe.schema,
         .pipe = pipe.name,
         .channel = fmt::format("etl/{}/{}/{}/{}/{}/0", start_.pipeline, stored_.identity->slot,
                                history_, checkpoint.schema->id.oid, checkpoint.generation)});
    table_of_[table.channel] = checkpoint.schema->id.oid;
    *worked = true;
  }
  if (!table.open) return false;
  if (table.loaded && table.committed == Position{}) {
    // The channel has no token, though it may have had rows: it expired, or the table was altered.
    if (cursor_.sql.empty()) cursor_.sql = {SelectLandedSql(Of(table), stored_.position)};
    ETL_ASSIGN_OR_RETURN(const bool done, RunSql("look for landed rows", now, worked));
    if (!done) return false;
    for (const SqlRow& row : outcome_->results.at(0).rows)
      table.landed.insert(row.at(0).value_or(""));
    outcome_.reset();
    cursor_.sql.clear();
    cursor_.next_sql = 0;
  }
  table.loaded = false;
  return true;
}

Result<bool> SnowflakeDestination::Apply(const ChangeBatch& batch, Instant now, bool* worked) {
  Table* table = Find(batch.schema->id);
  if (table == nullptr || !Stores(*table)) return true;
  ETL_ASSIGN_OR_RETURN(const bool open, OpenTable(*table, now, worked));
  if (!open) return false;
  if (table->writer == nullptr || table->writer_schema != batch.schema) {
    ETL_RETURN_IF_ERROR(Flush(*table));
    if (!SameLanding(*batch.schema, *table->state.checkpoint.schema))
      return NotYet(*batch.schema, "rows of an older version of the table");
    std::vector<std::string> names;
    for (const Column& column : batch.schema->columns) names.push_back(names_.Fold(column.name));
    ETL_ASSIGN_OR_RETURN(
        table->writer,
        RowWriter::Make(batch.schema, std::move(names),
                        {.on_unrepresentable = options_.on_unrepresentable, .body = {}}));
    table->writer_schema = batch.schema;
  }
  ETL_RETURN_IF_ERROR(table->writer->Bind(batch));
  size_t run = 0;
  for (int64_t row = 0; row < batch.size();) {
    while (batch.transactions[run].end_row <= row) ++run;
    const Position position{batch.transactions[run].commit,
                            batch.ordinals[static_cast<size_t>(row)]};
    table->newest = std::max(table->newest, position.commit);
    if (Landed(*table, position)) {
      ++row;
      continue;
    }
    ETL_ASSIGN_OR_RETURN(const bool added, table->writer->Add(row));
    if (added) {
      ++row;
    } else {
      ETL_RETURN_IF_ERROR(Flush(*table));
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
  if (Landed(*table, truncate.at)) return true;
  if (table->writer == nullptr) {
    std::vector<std::string> names;
    for (const Column& column : truncate.schema->columns) names.push_back(names_.Fold(column.name));
    ETL_ASSIGN_OR_RETURN(
        table->writer,
        RowWriter::Make(truncate.schema, std::move(names),
                        {.on_unrepresentable = options_.on_unrepresentable, .body = {}}));
    table->writer_schema = truncate.schema;
  }
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool added, table->writer->AddTruncate(truncate));
    if (added) return true;
    ETL_RETURN_IF_ERROR(Flush(*table));
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
    CloseLanes(table);
    const SnowflakeTable of = Of(start.schema, start.generation);
    cursor_.sql = CreateSchemasSql(names_, *start.schema);
    if (start_.mode == Mode::kMirror) {
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

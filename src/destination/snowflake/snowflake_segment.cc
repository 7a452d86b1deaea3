// What an accepted delivery does, in steps: each ends where something has to be waited for.

#include <algorithm>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

/// Transactions with a change that left values out: where a value is missing, the last change of
/// its row is of one, and so is the one by which the row came to its key.
void NoteXids(const ChangeBatch& batch, std::map<Lsn, uint32_t>* xids) {
  int64_t row = 0;
  for (const TransactionRun& run : batch.transactions) {
    const auto word = [&batch](int64_t at) {
      return batch.unsent.begin() + (batch.unsent.empty() ? 0 : at * batch.unsent_words);
    };
    if (std::any_of(word(row), word(run.end_row), [](uint64_t bits) { return bits != 0; }))
      (*xids)[run.commit] = run.xid;
    row = run.end_row;
  }
}

}  // namespace

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
  if (const auto* settled = std::get_if<SettledRows>(&*delivery_))
    return ApplySettled(*settled, now, worked);
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
  for (auto& [oid, table] : tables_) {
    if (table.new_xids.empty()) continue;
    boundary.records.push_back(ProgressLog::Xids(table.state, segment.end, table.new_xids));
    table.state.xids.merge(std::exchange(table.new_xids, {}));
  }
  if (segment.end > given_end_ || !boundary.records.empty() || !boundary.owed.empty()) {
    given_end_ = std::max(given_end_, segment.end);
    boundaries_.push_back(std::move(boundary));
  }
  return true;
}

/// Runs cursor_.sql, one request after the other; each may be run again after a crash.
Result<bool> SnowflakeDestination::RunSql(const std::string& what, Instant now, bool* worked) {
  if (outcome_.has_value()) {
    ETL_RETURN_IF_ERROR(ForgiveSchema(cursor_.sql[cursor_.next_sql].back(), outcome_->status));
    sql_ = 0;
    if (++cursor_.next_sql < cursor_.sql.size()) outcome_.reset();
  }
  if (cursor_.next_sql >= cursor_.sql.size()) return true;
  // No guard holds before the record that this run began with is there.
  if (sql_ != 0 || !Committed(Token(begin_))) return false;
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
  if (!open || !SpreadStored(*table, batch.transactions.back().commit) || Full()) return false;
  // Rows are written as the landing table has them, whatever version they were sent under.
  ChangeBatch storage;
  ETL_ASSIGN_OR_RETURN(const ChangeBatch* mapped,
                       MapChanges(batch, table->state.landing, table->state.fill, &storage));
  std::vector<RowWriter*> writers;
  for (TableChannel& channel : ChannelsOf(*table)) {
    ETL_ASSIGN_OR_RETURN(RowWriter* const writer, WriterOf(*table, channel));
    ETL_RETURN_IF_ERROR(writer->Bind(*mapped));
    writers.push_back(writer);
  }
  if (start_.mode == Mode::kMirror && table->state.checkpoint.phase == TablePhase::kCopying)
    NoteXids(batch, &table->new_xids);
  // By the rows as they were sent: a restart may find other columns.
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
        // It is sent while the rest is written, and the table may need more channels by now.
        ETL_RETURN_IF_ERROR(Flush(*table, channel));
        *worked = true;
        return false;
      }
    }
  }
  return true;
}

/// Rows that were read again land on a channel of their own, and count when it is known which of
/// them do.
Result<bool> SnowflakeDestination::ApplySettled(const SettledRows& rows, Instant now,
                                                bool* worked) {
  enum { kWrite, kProve, kCount };
  Table* table = Find(rows.table);
  if (start_.mode != Mode::kMirror || table == nullptr || rows.rows == nullptr) return true;
  const TableCheckpoint& checkpoint = table->state.checkpoint;
  if (checkpoint.phase != TablePhase::kCopying || checkpoint.generation != rows.generation ||
      !rows.rows->schema()->Equals(checkpoint.schema->ArrowSchema()) || rows.high > given_end_ ||
      rows.rows->num_rows() == 0)
    return true;
  if (cursor_.step == kWrite) {
    if (table->settling == nullptr) table->settling = std::make_unique<Lane>();
    Lane& lane = *table->settling;
    ETL_ASSIGN_OR_RETURN(const bool open, OpenLane(*table, lane, now, worked));
    if (!open) return false;
    ETL_ASSIGN_OR_RETURN(const auto mapped, MapRows(rows.rows, *checkpoint.schema,
                                                    *table->state.landing, table->state.fill));
    if (rows.read_after < lane.settled_at) return true;
    if (lane.settled_at != rows.read_after) lane.rows = 0;
    lane.settled_at = rows.read_after;
    ETL_ASSIGN_OR_RETURN(const bool written,
                         WriteCopied(*table, lane, mapped, rows.read_after, kSettledAttempt));
    if (!written) return false;
    ETL_RETURN_IF_ERROR(FlushLane(lane));
    cursor_.step = kProve;
  }
  if (cursor_.step == kProve) {
    const Lane& lane = *table->settling;
    if (lane.given > lane.proved || stored_.position < rows.high) return false;
    cursor_.sql = {SettleSql(Of(*table), rows.read_after, rows.high)};
    cursor_.step = kCount;
  }
  ETL_ASSIGN_OR_RETURN(const bool done, RunSql("settle rows", now, worked));
  if (done) outcome_.reset();
  return done;
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
  ETL_ASSIGN_OR_RETURN(RowWriter* const writer, WriterOf(*table, channel));
  holding_.insert(truncate.schema->id.oid);
  while (true) {
    ETL_ASSIGN_OR_RETURN(const bool added, writer->AddTruncate(truncate));
    if (added) return true;
    ETL_RETURN_IF_ERROR(Flush(*table, channel));
  }
}

Result<bool> SnowflakeDestination::Apply(const CopyStart& start, Instant now, bool* worked) {
  enum { kClose, kRoom, kChoose, kAlter, kVoid, kMake };
  Table& table = tables_[start.schema->id.oid];
  SnowflakeTableState& state = table.state;
  const bool mirror = start_.mode == Mode::kMirror;
  if (cursor_.step == kClose) {
    ETL_ASSIGN_OR_RETURN(const bool closed, CloseTable(table));
    if (!closed || Busy(start.schema->id) || state.altering != nullptr) return false;
    table.still = true;
    CloseLanes(table);
    cursor_.step = kRoom;
  }
  if (cursor_.step == kRoom) {
    ETL_ASSIGN_OR_RETURN(const bool free, MakeRoom(table, *start.schema, now, worked));
    if (!free) return false;
    cursor_.step = kChoose;
  }
  // What landed in this history stays where it fits: rows of one position are equal, and a target
  // that is kept in step still needs them.
  const bool there = state.landing != nullptr && (!mirror || state.landing_history == history_);
  if (cursor_.step == kChoose) {
    cursor_.step = kMake;
    if (there && !mirror) cursor_.step = kAlter;
    if (mirror && (!there || !SamePlace(*state.landing, *start.schema))) {
      cursor_.step = kVoid;
      // The generation before cannot go on without what landed: until this copy is stored, the
      // table waits for one.
      if (table.known && Stores(table)) {
        SnowflakeTableState waiting = state;
        waiting.checkpoint = {.schema = state.checkpoint.schema,
                              .generation = state.checkpoint.generation,
                              .fingerprint = state.checkpoint.fingerprint};
        ETL_RETURN_IF_ERROR(
            WriteRecords({ProgressLog::Table(waiting, /*immediate=*/true)}, {}, {}));
      }
      cursor_.token = Token(sequence_);
    }
  }
  if (cursor_.step == kAlter) {
    ETL_ASSIGN_OR_RETURN(const bool done, AlterTo(table, start.schema, nullptr, worked));
    if (!done) return false;
    if (!SamePlace(*state.landing, *start.schema)) {  // Stopped.
      table.still = false;
      return true;
    }
    cursor_.step = kMake;
  }
  if (cursor_.step == kVoid && !Committed(cursor_.token)) return false;
  if (cursor_.sql.empty()) PrepareLanding(table, start, cursor_.step == kVoid);
  ETL_ASSIGN_OR_RETURN(const bool done, RunSql("make the landing table", now, worked));
  if (!done) return false;
  outcome_.reset();
  // A target is kept in step only while it has the columns that the changes have.
  const TableCheckpoint& before = state.checkpoint;
  const bool kept = start.keep_target && there && Follows(table) && table.live > 0 &&
                    SamePlace(*state.target, *start.schema) &&
                    etl::SameColumns(*before.schema, *start.schema);
  state.checkpoint = TableCheckpoint{.schema = start.schema,
                                     .generation = start.generation,
                                     .phase = TablePhase::kCopying,
                                     .from = start.from,
                                     .keep_target = kept};
  state.landing = start.schema;
  state.landing_history = history_;
  state.newest_attnum = NewestAttnum(*start.schema);
  state.fill.clear();
  state.again = table.known;
  state.attempts.clear();
  state.xids.clear();
  // The step may be a repeated one, of a run that ended before the boundary behind it was stored.
  table.loaded = true;
  table.known = true;
  table.landed.clear();
  table.new_xids.clear();
  table.mark = "copying";
  table.copy_made = false;
  table.still = false;
  table.task_schema = nullptr;
  state.spreads.clear();
  if (!kept) {
    table.live = 0;
    table.newest = {};
    table.applied = start.from;
    table.empty_until = {};
  }
  ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Landing(state)}, {}, {}));
  Remember(table);
  return true;
}

/// The statements that begin a copy, in cursor_.sql.
void SnowflakeDestination::PrepareLanding(Table& table, const CopyStart& start, bool anew) {
  const SnowflakeTable of = Of(start.schema, start.generation);
  const auto drop = [](const SnowflakeName& name) { return "DROP TABLE IF EXISTS " + name.Sql(); };
  for (std::string& sql : CreateSchemasSql(names_, *start.schema))
    cursor_.sql.push_back({std::move(sql)});
  if (start_.mode == Mode::kMirror) {
    if (const Statements fence = Fence(table); !fence.empty())
      cursor_.sql.push_back(Guarded(fence));
  }
  if (anew) {
    cursor_.sql.push_back({"BEGIN TRANSACTION", EndEarlierSql(of),
                           RunGuardSql(names_, start_.pipeline, begin_), "COMMIT"});
    // Its channels end with it. What it holds is of an earlier generation, or comes again.
    const SnowflakeName landing = names_.Landing(*start.schema);
    cursor_.sql.push_back(Guarded({drop(landing), DropShadowSql(of)}));
    if (table.state.landing != nullptr && names_.Landing(*table.state.landing) != landing)
      cursor_.sql.push_back(Guarded({drop(names_.Landing(*table.state.landing))}));
  }
  // One of a run that ended before this was stored may have begun elsewhere. The lock is that of
  // its merges and folds, too.
  cursor_.sql.push_back({"BEGIN TRANSACTION", ForgetCopyingSql(of),
                         RunGuardSql(names_, start_.pipeline, begin_),
                         InsertWatermarkSql(of, start.from, /*live=*/false), "COMMIT"});
  cursor_.sql.push_back(Guarded({CreateLandingSql(of)}));
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
  checkpoint.keep_target = false;
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

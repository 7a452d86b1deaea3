// Work of mirror mode beside the stream, one job at a time: folds, merges, and what tasks need.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/claim_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/snowflake_destination.h"
#include "destination/snowflake/snowflake_read.h"
#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

constexpr const char* kMoved = "the watermark has moved";
constexpr const char* kContradiction = "the target and the changes contradict each other";

int64_t CountOf(const SqlRows& rows, std::string_view name) {
  const std::optional<std::string> text = rows.First(name);
  int64_t value = 0;
  if (text.has_value()) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

}  // namespace

bool SnowflakeDestination::Busy(TableId table) const {
  return job_.has_value() && job_->table == table;
}

void SnowflakeDestination::RunJob(const std::string& what, const Statements& sql, Instant now) {
  ETL_FAILPOINT("snowflake.job.before");
  job_running_ = true;
  link_->sql().Run(
      link_->Request(what + " " + tables_.at(job_->table.oid).state.checkpoint.schema->name, sql),
      [this](SqlOutcome outcome, Instant) {
        job_running_ = false;
        job_outcome_ = std::move(outcome);
      },
      now);
}

// Folds wait until all that was accepted is stored: F is then a boundary behind the copied rows.
bool SnowflakeDestination::FoldDue() {
  const Table* table = deferred_.empty() ? nullptr : Find(deferred_.front().table);
  if (table != nullptr && table->state.altering != nullptr) return false;
  return !deferred_.empty() && !inside_ && !delivery_.has_value() && boundaries_.empty() &&
         written_.empty() && LanesQuiet();
}

Instant SnowflakeDestination::MergesDue() const {
  Instant due = kNever;
  if (job_.has_value() || start_.mode != Mode::kMirror) return due;
  for (const auto& [oid, table] : tables_) {
    if (MayMerge(table)) due = std::min(due, Awaited(table) ? Instant{} : table.merge_at);
  }
  return due;
}

bool SnowflakeDestination::HasChanges(const Table& table) const {
  return table.live > 0 && Follows(table) && table.state.altering == nullptr && !table.finish &&
         !table.still && AppliedOf(table) < stored_.position;
}

bool SnowflakeDestination::MayMerge(const Table& table) const {
  return HasChanges(table) && (!ByTask(table) || Awaited(table));
}

/// What stands before everything else: tables on their way to other columns, and folds that an
/// earlier run began.
bool SnowflakeDestination::BeginAlter() {
  for (auto& [oid, table] : tables_) {
    if (table.state.altering == nullptr && !table.finish) continue;
    job_ = Job{.kind = table.finish ? Job::Kind::kFold : Job::Kind::kAlter, .table = {oid}};
    // Goes on when the record that says so is there.
    job_->token = Token(sequence_);
    job_->quiet = table.finish;
    return true;
  }
  return false;
}

bool SnowflakeDestination::BeginMerge(Instant now) {
  if (start_.mode != Mode::kMirror) return false;
  for (const auto& [oid, table] : tables_) {
    if (!MayMerge(table) || (now < table.merge_at && !Awaited(table))) continue;
    job_ = Job{.kind = Job::Kind::kMerge,
               .table = {oid},
               .generation = table.live,
               .low = table.applied,
               .high = stored_.position};
    return true;
  }
  return false;
}

bool SnowflakeDestination::BeginJob(Instant now) {
  return BeginAlter() || BeginTaskJob(now) || BeginMerge(now);
}

/// Up to where the target holds everything that was given.
Lsn SnowflakeDestination::AppliedOf(const Table& table) const {
  const Lsn known = std::max(table.applied, table.empty_until);
  return table.newest < known ? std::max(known, stored_.position) : known;
}

Lsn SnowflakeDestination::AppliedByAll() const {
  Lsn all = stored_.position;
  if (start_.mode != Mode::kMirror) return all;
  for (const auto& [oid, table] : tables_) {
    if (table.state.checkpoint.phase == TablePhase::kLive) all = std::min(all, AppliedOf(table));
  }
  return all;
}

// Merged once all that somebody waits for is below F: once, not again and again on the way there.
bool SnowflakeDestination::Awaited(const Table& table) const {
  return stored_.position >= awaited_ && AppliedOf(table) < awaited_;
}

Status SnowflakeDestination::StepJobs(Instant now, bool* worked) {
  if (job_running_) return Status::OK();
  if (!job_.has_value()) {
    if (FoldDue()) {
      const FoldRequest request = deferred_.front();
      deferred_.pop_front();
      *worked = true;
      return BeginFold(request);
    }
    if (!BeginJob(now)) return Status::OK();
  }
  if (!Committed(std::max(job_->token, Token(begin_)))) return Status::OK();
  *worked = true;
  SqlOutcome outcome = std::exchange(job_outcome_, std::nullopt).value_or(SqlOutcome{});
  if (std::exchange(job_->asking, false)) {
    ETL_RETURN_IF_ERROR(outcome.status);
    TakeWatermarks(outcome.results.at(0));
    if (job_->kind == Job::Kind::kTask) LookForLateTasks(now);
    if (job_->kind != Job::Kind::kFold) job_.reset();
    return Status::OK();
  }
  if (outcome.failure.has_value() && outcome.failure->message.find(kMoved) != std::string::npos) {
    // What a run that was ended had sent is carried out now and then after its end.
    job_->asking = true;
    job_->step = 0;
    RunJob("look at the watermark of", {SelectWatermarksSql(names_, start_.pipeline)}, now);
    return Status::OK();
  }
  switch (job_->kind) {
    case Job::Kind::kAlter: return StepAlter(outcome, now);
    case Job::Kind::kMerge: return StepMerge(outcome, now);
    case Job::Kind::kTask: return StepTask(outcome, now);
    case Job::Kind::kFold: break;
  }
  return start_.mode == Mode::kAppend ? StepAppendFold(outcome, now) : StepFold(outcome, now);
}

Status SnowflakeDestination::StepMerge(SqlOutcome& outcome, Instant now) {
  Table& table = tables_.at(job_->table.oid);
  SnowflakeTable of = Of(table);
  of.generation = job_->generation;
  const MergeWindow window{job_->low, job_->high};
  const TableCheckpoint& checkpoint = table.state.checkpoint;
  const auto end = [&] {
    job_.reset();
    table.merge_at = now + options_.config.merge_every;
    if (std::exchange(table.task_late, false)) table.task_anew = true;
    return Status::OK();
  };
  // Stopped, or copied anew, while the question was on its way.
  if (!Follows(table) || table.live != job_->generation) return end();
  switch (job_->step++) {
    case 0: RunJob("look at changes of", {ProbeWindowSql(of, window)}, now); return Status::OK();
    case 1: {
      ETL_RETURN_IF_ERROR(outcome.status);
      const SqlRows& counts = outcome.results.at(0);
      if (CountOf(counts, "ROWS") == 0) {
        table.empty_until = job_->high;
        return end();
      }
      job_->rows = CountOf(counts, "ROWS");
      RunJob("merge",
             MergeSql(of, window,
                      {.truncates = CountOf(counts, "TRUNCATES") > 0,
                       .moves = CountOf(counts, "MOVES") > 0,
                       .keep_from = checkpoint.phase == TablePhase::kCopying
                                        ? Lsn{checkpoint.from.value - 1}
                                        : Lsn{}}),
             now);
      return Status::OK();
    }
    default: break;
  }
  if (!outcome.status.ok()) {
    if (!outcome.failure.has_value() ||
        outcome.failure->message.find(kContradiction) == std::string::npos)
      return outcome.status;
    const std::string name = checkpoint.schema->QualifiedName();
    if (checkpoint.phase == TablePhase::kCopying) {
      // Its new copy is under way already: what readers see stays as it is until then.
      table.state.checkpoint.keep_target = false;
      Remember(table);
      return end();
    }
    const Status stopped =
        StopTable(table, "ETL-D150",
                  fmt::format("{} differs from the source; do: etl-stream pipeline resync {} "
                              "--table {}",
                              name, start_.pipeline, name));
    job_.reset();
    return stopped;
  }
  table.applied = job_->high;
  ++used_.merges;
  used_.rows_merged += job_->rows;
  merged_.push_back({job_->table, job_->rows});
  return end();
}

// Its own, or that of a stopped table, which it takes the place of.
bool SnowflakeDestination::Owns(const SnowflakeName& target, const Table& table) const {
  return std::any_of(tables_.begin(), tables_.end(), [&](const auto& entry) {
    const Table& other = entry.second;
    return other.state.target != nullptr && names_.Target(*other.state.target) == target &&
           (&other == &table || other.state.checkpoint.phase == TablePhase::kStopped);
  });
}

Status SnowflakeDestination::StopTable(Table& table, std::string code, std::string reason) {
  TableCheckpoint& checkpoint = table.state.checkpoint;
  checkpoint.phase = TablePhase::kStopped;
  checkpoint.keep_target = false;
  checkpoint.planned = false;
  checkpoint.chunks.clear();
  checkpoint.done.clear();
  checkpoint.stop_code = code;
  checkpoint.stop_reason = reason;
  TableStop stop;
  stop.table = checkpoint.schema->id;
  stop.code = std::move(code);
  stop.reason = std::move(reason);
  ETL_RETURN_IF_ERROR(WriteRecords({ProgressLog::Table(table.state, /*immediate=*/true)}, {}, {}));
  written_.back().stops.push_back(std::move(stop));
  return Status::OK();
}

Status SnowflakeDestination::BeginFold(const FoldRequest& request) {
  Table* table = Find(request.table);
  if (table == nullptr || table->state.checkpoint.generation != request.generation)
    return Status::OK();
  TableCheckpoint& checkpoint = table->state.checkpoint;
  if (checkpoint.phase == TablePhase::kLive) {
    FoldResult result{.table = request.table, .generation = request.generation};
    result.folded = true;
    result.rows = checkpoint.rows;
    result.at = stored_.position;
    folds_.push_back(std::move(result));
    return Status::OK();
  }
  if (checkpoint.phase != TablePhase::kCopying) return Status::OK();
  job_ = Job{.kind = Job::Kind::kFold,
             .table = request.table,
             .low = checkpoint.from,
             .high = stored_.position,
             .ignore_below = request.ignore_below};
  return Status::OK();
}

// The table is true at any position behind its copied rows, once these have been appended.
Status SnowflakeDestination::StepAppendFold(SqlOutcome& outcome, Instant now) {
  enum { kBegin, kAppended, kEnd };
  Table& table = tables_.at(job_->table.oid);
  const SnowflakeTableState& state = table.state;
  ETL_RETURN_IF_ERROR(outcome.status);
  const SnowflakeTable of = Of(table);
  const SnowflakeName copied = names_.Landing(*CopiedSchema(of));
  const bool quiet = job_->quiet;
  if (job_->step == kBegin && table.mark != "live") {
    if (state.checkpoint.rows == 0 && !state.again) {
      job_.reset();
      return FinishFold(table, 0, quiet);
    }
    job_->step = kAppended;
    Statements sql{CreateLandingSql(Of(CopiedSchema(of), of.generation))};
    for (std::string& statement :
         AppendCopiedSql(of,
                         {.from = state.checkpoint.from,
                         .high = std::max(stored_.position, state.checkpoint.from),
                         .done = state.attempts,
                         .ignore_below = {}},
                         copied, state.again))
      sql.push_back(std::move(statement));
    RunJob("append copied rows of", sql, now);
    return Status::OK();
  }
  if (job_->step != kEnd) {
    table.mark = "live";
    CloseLanes(table);
    job_->step = kEnd;
    RunJob("drop copied rows of", Guarded({"DROP TABLE IF EXISTS " + copied.Sql()}), now);
    return Status::OK();
  }
  job_.reset();
  return FinishFold(table, state.checkpoint.rows, quiet);
}

Status SnowflakeDestination::FinishFold(Table& table, int64_t rows, bool quiet) {
  TableCheckpoint& checkpoint = table.state.checkpoint;
  FoldResult result{.table = checkpoint.schema->id, .generation = checkpoint.generation};
  result.folded = true;
  result.rows = rows;
  checkpoint.phase = TablePhase::kLive;
  checkpoint.keep_target = false;
  checkpoint.planned = false;
  checkpoint.chunks.clear();
  checkpoint.done.clear();
  checkpoint.rows = rows;
  CloseLanes(table);
  table.state.attempts.clear();
  table.state.xids.clear();
  table.finish = false;
  if (start_.mode == Mode::kMirror) table.state.target = table.state.landing;
  std::vector<FoldResult> results;
  if (!quiet) results.push_back(std::move(result));
  return WriteRecords({ProgressLog::Table(table.state, /*immediate=*/true)}, {},
                      std::move(results));
}

/// Some values were never sent and are not in the copied rows: by key, and the transactions that
/// must be visible to whoever reads them.
Status SnowflakeDestination::ReportMissing(const Table& table, const SqlRows& found) {
  const TableSchema& schema = *table.state.landing;
  FoldResult result{.table = schema.id, .generation = table.state.checkpoint.generation};
  result.at = stored_.position;
  TableSchema keys;
  keys.schema = schema.schema;
  keys.name = schema.name;
  for (const int key : schema.key) keys.columns.push_back(schema.columns[static_cast<size_t>(key)]);
  // Behind the key stand positions.
  SqlRows texts = found;
  for (SqlRow& row : texts.rows) row.resize(std::min(row.size(), schema.key.size()));
  ETL_ASSIGN_OR_RETURN(result.missing_keys, BatchOfStored(keys, texts));
  std::set<uint32_t> xids;
  for (const SqlRow& row : found.rows) {
    for (size_t i = schema.key.size(); i < row.size(); ++i) {
      const auto position = ParsePositionText(row[i].value_or(""));
      if (!position.has_value()) continue;
      const auto xid = table.state.xids.find(position->commit);
      if (xid != table.state.xids.end()) xids.insert(xid->second);
    }
  }
  result.xids.assign(xids.begin(), xids.end());
  folds_.push_back(std::move(result));
  return Status::OK();
}

Status SnowflakeDestination::StepFold(SqlOutcome& outcome, Instant now) {
  enum { kBegin, kMissing, kTarget, kShadow, kFolded, kSwap, kSwapState, kSwapped, kCount, kEnd };
  Table& table = tables_.at(job_->table.oid);
  const SnowflakeTable of = Of(table);
  const TableSchema& schema = *table.state.landing;
  const bool quiet = job_->quiet;
  const SnowflakeName target = names_.Target(schema);
  const SnowflakeName shadow =
      names_.Shadow(start_.pipeline, schema, table.state.checkpoint.generation);
  ETL_RETURN_IF_ERROR(outcome.status);
  const Fold fold{.from = job_->low,
                  .high = job_->high,
                  .done = table.state.attempts,
                  .ignore_below = job_->ignore_below};
  if (table.state.checkpoint.phase != TablePhase::kCopying) {
    job_.reset();
    table.finish = false;
    return Status::OK();
  }
  const auto run = [&](int next, const std::string& what, const std::vector<std::string>& sql) {
    job_->step = next;
    RunJob(what, sql, now);
    return Status::OK();
  };
  const auto stop = [&](std::string why) {
    job_.reset();
    return StopTable(table, "ETL-D120", schema.QualifiedName() + ": " + std::move(why));
  };
  switch (job_->step) {
    case kBegin:
      // What an earlier run did is told by the watermark.
      if (table.mark == "live") return run(kCount, "find", {"SELECT 1"});
      if (table.mark == "swap") return run(kSwap, "find", {"SELECT 1"});
      if (schema.identity == Identity::kKey)
        return run(kMissing, "look for missing values of", {MissingSql(of, fold)});
      [[fallthrough]];
    case kMissing:
      if (!outcome.results.empty() && !outcome.results[0].rows.empty()) {
        const Status reported = ReportMissing(table, outcome.results[0]);
        job_.reset();
        return reported.ok() ? Status::OK() : StopTable(table, "ETL-D140", reported.message());
      }
      return run(kTarget, "look for the target of", {SelectColumnsSql(target)});
    case kTarget: {
      const bool exists = !outcome.results.at(0).rows.empty();
      if (exists && !Owns(target, table))
        return stop("a table of that name is there, and this pipeline did not make it");
      job_->direct =
          exists && table.state.target != nullptr && SamePlace(*table.state.target, schema);
      if (job_->direct) return run(kFolded, "fold", FoldSql(of, fold, target));
      return run(kShadow, "make", {CreateTargetSql(of, shadow)});
    }
    case kShadow: return run(kFolded, "fold", FoldSql(of, fold, shadow));
    case kFolded:
      table.mark = job_->direct ? "live" : "swap";
      table.applied = job_->high;
      table.live = table.state.checkpoint.generation;
      if (job_->direct) return run(kEnd, "count", {"SELECT COUNT(*) AS N FROM " + target.Sql()});
      [[fallthrough]];
    case kSwap: return run(kSwapState, "look for", {SwapStateSql(of)});
    case kSwapState: {
      SwapState state;
      for (const SqlRow& row : outcome.results.at(0).rows) {
        const std::string name = row.at(0).value_or("");
        state.target = state.target || name == target.name;
        state.shadow = state.shadow || name == shadow.name;
        state.retired = state.retired || name == names_.Retired(start_.pipeline, schema).name;
      }
      const std::optional<std::string> next = NextSwapStep(of, state);
      if (next.has_value()) return run(kSwap, "swap", {*next});
      return run(kSwapped, "swap", {FinishSwapSql(of)});
    }
    case kSwapped: {
      table.mark = "live";
      table.live = table.state.checkpoint.generation;
      Statements drop{DropRetiredSql(of)};
      // One that stood still under the name that the table had before.
      if (table.state.target != nullptr && names_.Target(*table.state.target) != target)
        drop.push_back("DROP TABLE IF EXISTS " + names_.Target(*table.state.target).Sql());
      return run(kCount, "drop the former", Guarded(drop));
    }
    case kCount: return run(kEnd, "count", {"SELECT COUNT(*) AS N FROM " + target.Sql()});
    default: break;
  }
  const int64_t rows = CountOf(outcome.results.at(0), "N");
  job_.reset();
  table.merge_at = now;
  return FinishFold(table, rows, quiet);
}

}  // namespace etl

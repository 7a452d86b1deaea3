// Work of mirror mode beside the stream, one job at a time: folds, merges, and what tasks need.

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/check.h"
#include "base/failpoint.h"
#include "base/log.h"
#include "destination/snowflake/alter_sql.h"
#include "destination/snowflake/fold_sql.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/snowflake_destination.h"
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

void SnowflakeDestination::RunJob(const std::string& what, const std::vector<std::string>& sql,
                                  Instant now) {
  std::string text;
  for (const std::string& statement : sql) text += (text.empty() ? "" : ";\n") + statement;
  SqlRequest request =
      link_->Request(what + " " + tables_.at(job_->table.oid).state.checkpoint.schema->name, text);
  request.statements = static_cast<int>(sql.size());
  ETL_FAILPOINT("snowflake.job.before");
  job_running_ = true;
  link_->sql().Run(
      std::move(request),
      [this](SqlOutcome outcome, Instant) {
        job_running_ = false;
        job_outcome_ = std::move(outcome);
      },
      now);
}

// Folds wait until all that was accepted is stored: F is then a boundary behind the copied rows.
bool SnowflakeDestination::FoldDue() const {
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
  // Not where an earlier run has begun another copy, and ended before that was stored.
  return table.state.checkpoint.phase == TablePhase::kLive && table.mark == "live" &&
         !table.still && AppliedOf(table) < stored_.position;
}

bool SnowflakeDestination::MayMerge(const Table& table) const {
  return HasChanges(table) && (!ByTask(table) || Awaited(table));
}

bool SnowflakeDestination::BeginMerge(Instant now) {
  if (start_.mode != Mode::kMirror) return false;
  for (const auto& [oid, table] : tables_) {
    if (!MayMerge(table) || (now < table.merge_at && !Awaited(table))) continue;
    job_ = Job{.table = {oid}, .fold = false, .low = table.applied, .high = stored_.position};
    return true;
  }
  return false;
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
    if (!BeginTaskJob(now) && !BeginMerge(now)) return Status::OK();
  }
  *worked = true;
  SqlOutcome outcome = std::exchange(job_outcome_, std::nullopt).value_or(SqlOutcome{});
  if (std::exchange(job_->asking, false)) {
    ETL_RETURN_IF_ERROR(outcome.status);
    TakeWatermarks(outcome.results.at(0));
    if (job_->task) LookForLateTasks(now);
    outcome = SqlOutcome{};
    if (!job_->fold) job_.reset();
    return Status::OK();
  }
  if (outcome.failure.has_value() && outcome.failure->message.find(kMoved) != std::string::npos) {
    // What a run that was ended had sent is carried out now and then after its end.
    job_->asking = true;
    job_->step = 0;
    RunJob("look at the watermark of", {SelectWatermarksSql(names_, start_.pipeline)}, now);
    return Status::OK();
  }
  if (job_->task) return StepTask(outcome, now);
  return job_->fold ? StepFold(outcome, now) : StepMerge(outcome, now);
}

Status SnowflakeDestination::StepMerge(SqlOutcome& outcome, Instant now) {
  Table& table = tables_.at(job_->table.oid);
  const SnowflakeTable of = Of(table);
  const MergeWindow window{job_->low, job_->high};
  const auto end = [&] {
    job_.reset();
    table.merge_at = now + options_.config.merge_every;
    if (std::exchange(table.task_late, false)) table.task_anew = true;
    return Status::OK();
  };
  // Stopped, or copied anew, while the question was on its way.
  if (table.state.checkpoint.phase != TablePhase::kLive) return end();
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
                       .moves = CountOf(counts, "MOVES") > 0}),
             now);
      return Status::OK();
    }
    default: break;
  }
  if (!outcome.status.ok()) {
    if (!outcome.failure.has_value() ||
        outcome.failure->message.find(kContradiction) == std::string::npos)
      return outcome.status;
    const std::string name = table.state.checkpoint.schema->QualifiedName();
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
  // In append mode nothing moves: the table is true at any position behind its copied rows.
  if (start_.mode == Mode::kAppend) return FinishFold(*table, checkpoint.rows);
  job_ = Job{.table = request.table,
             .fold = true,
             .low = checkpoint.from,
             .high = stored_.position,
             .ignore_below = request.ignore_below};
  return Status::OK();
}

Status SnowflakeDestination::FinishFold(Table& table, int64_t rows) {
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
  if (start_.mode == Mode::kMirror) table.state.target = checkpoint.schema;
  return WriteRecords({ProgressLog::Table(table.state, /*immediate=*/true)}, {},
                      {std::move(result)});
}

Status SnowflakeDestination::StepFold(SqlOutcome& outcome, Instant now) {
  enum { kBegin, kMissing, kTarget, kShadow, kFolded, kSwap, kSwapState, kSwapped, kCount, kEnd };
  Table& table = tables_.at(job_->table.oid);
  const SnowflakeTable of = Of(table);
  const TableSchema& schema = *table.state.checkpoint.schema;
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
      if (!outcome.results.empty() && !outcome.results[0].rows.empty())
        return stop("values that were never sent cannot be read again by this version");
      return run(kTarget, "look for the target of", {SelectColumnsSql(target)});
    case kTarget: {
      const bool exists = !outcome.results.at(0).rows.empty();
      if (exists && !Owns(target, table))
        return stop("a table of that name is there, and this pipeline did not make it");
      job_->direct =
          exists && table.state.target != nullptr && SameLanding(*table.state.target, schema);
      if (job_->direct) return run(kFolded, "fold", FoldSql(of, fold, target));
      return run(kShadow, "make", {CreateTargetSql(of, shadow)});
    }
    case kShadow: return run(kFolded, "fold", FoldSql(of, fold, shadow));
    case kFolded:
      table.mark = job_->direct ? "live" : "swap";
      table.applied = job_->high;
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
    case kSwapped: table.mark = "live"; return run(kCount, "drop the former", {DropRetiredSql(of)});
    case kCount: return run(kEnd, "count", {"SELECT COUNT(*) AS N FROM " + target.Sql()});
    default: break;
  }
  const int64_t rows = CountOf(outcome.results.at(0), "N");
  job_.reset();
  table.merge_at = now;
  return FinishFold(table, rows);
}

}  // namespace etl

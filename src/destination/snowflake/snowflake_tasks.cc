// merge: {by: task}. The tasks of tables that are live are put in place, and watched: what they
// have merged is read from the watermarks, and where one does not get on, the engine merges for it.

#include <algorithm>

#include "base/log.h"
#include "destination/snowflake/merge_sql.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

/// Snowflake takes no shorter schedule.
constexpr Duration kScheduleLeast = std::chrono::seconds(10);

}  // namespace

/// The table's task merges it.
bool SnowflakeDestination::ByTask(const Table& table) const {
  return !table.task.empty() && table.task == table.task_wanted && !table.task_late;
}

TaskOptions SnowflakeDestination::TaskOf() const {
  const Duration every = std::max(options_.config.merge_every, kScheduleLeast);
  return {.warehouse = options_.config.warehouse,
          .every_seconds = std::chrono::ceil<std::chrono::seconds>(every).count(),
          .history = history_,
          .keep_from = {}};
}

/// The version that the table's task is to have; empty: no task. Not while the landing table is
/// ahead of the log: the change of columns is carried out again first.
const std::string& SnowflakeDestination::WantedTask(Table& table) const {
  const SnowflakeTableState& state = table.state;
  if (start_.mode != Mode::kMirror || options_.config.merge_by != MergeBy::kTask ||
      state.checkpoint.phase != TablePhase::kLive || table.mark != "live" || table.still ||
      table.finish || state.altering != nullptr || state.landing == nullptr ||
      !SamePlace(*state.landing, *state.checkpoint.schema)) {
    table.task_wanted.clear();
    table.task_schema = nullptr;
  } else if (table.task_schema != state.landing) {
    table.task_wanted = TaskVersion(Of(table), TaskOf());
    table.task_schema = state.landing;
  }
  return table.task_wanted;
}

bool SnowflakeDestination::BeginTaskJob(Instant now) {
  if (start_.mode != Mode::kMirror) return false;
  for (auto& [oid, table] : tables_) {
    const std::string& wanted = WantedTask(table);
    const bool due =
        wanted.empty() ? MayHaveTask(table.task) : table.task_anew || (wanted != table.task);
    if (!due || table.still || now < table.task_put_at) continue;
    job_ = Job{.kind = Job::Kind::kTask, .table = {oid}};
    return true;
  }
  if (now < TasksDue()) return false;
  for (const auto& [oid, table] : tables_) {
    if (!HasChanges(table) || !ByTask(table)) continue;
    job_ = Job{.kind = Job::Kind::kTask, .table = {oid}};
    job_->step = 1;
    return true;
  }
  return false;
}

/// Puts or removes the task, then looks at what the watermarks say.
Status SnowflakeDestination::StepTask(const SqlOutcome& outcome, Instant now) {
  ETL_RETURN_IF_ERROR(outcome.status);
  Table& table = tables_.at(job_->table.oid);
  if (job_->step++ == 0) {
    const std::string& wanted = WantedTask(table);
    table.task_anew = false;
    // Where another run was in between, TASK is not what was put.
    table.task_put_at = now + options_.config.merge_every;
    if (!wanted.empty()) {
      LogInfo("a task is put in place",
              {{"table", table.state.checkpoint.schema->QualifiedName()}});
      RunJob("put the task of", Guarded(PutTaskSql(Of(table), TaskOf(), table.task, run_)), now);
    } else {
      RunJob("remove the task of", Guarded(FenceTaskSql(Of(table), run_)), now);
    }
    return Status::OK();
  }
  tasks_looked_at_ = now;
  job_->asking = true;
  RunJob("look at the watermark of", {SelectWatermarksSql(names_, start_.pipeline)}, now);
  return Status::OK();
}

/// When to look how far the tasks have come.
Instant SnowflakeDestination::TasksDue() const {
  if (job_.has_value()) return kNever;
  const bool waiting = std::any_of(tables_.begin(), tables_.end(), [this](const auto& entry) {
    return HasChanges(entry.second) && ByTask(entry.second);
  });
  return waiting ? tasks_looked_at_ + options_.config.merge_every : kNever;
}

void SnowflakeDestination::LookForLateTasks(Instant now) {
  for (auto& [oid, table] : tables_) {
    if (!HasChanges(table) || !ByTask(table)) {
      table.task_stuck = {};
    } else if (table.task_stuck != table.applied) {
      table.task_stuck = table.applied;
      table.task_stuck_since = now;
    } else if (now - table.task_stuck_since >
               3 * options_.config.merge_every + options_.task_grace) {
      LogWarn("a task does not merge; the engine does it, and puts the task anew",
              {{"task", names_.Task(*table.state.checkpoint.schema).Sql()}});
      table.task_late = true;
      table.merge_at = now;
      table.task_stuck = {};
    }
  }
}

/// Statements to be run before the table, or its columns, become others. No task claims anything
/// behind them until one is put anew.
std::vector<std::string> SnowflakeDestination::Fence(Table& table) {
  const TableSchemaPtr& schema =
      table.state.landing != nullptr ? table.state.landing : table.state.checkpoint.schema;
  if (schema == nullptr) return {};
  table.task = NoTask(run_);
  table.task_late = false;
  table.task_anew = false;
  table.task_put_at = {};
  return FenceTaskSql(Of(schema, table.state.checkpoint.generation), run_);
}

}  // namespace etl

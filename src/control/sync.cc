// `sync`: up to where the source stands at the call.
#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "control/commands.h"
#include "control/pipeline_factory.h"
#include "control/sync_target.h"
#include "postgres/source_setup.h"
#include "postgres/wal_position.h"

namespace etl {

Result<Lsn> ReadSyncTarget(const SourceOptions& source, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<PgConnection> connection,
                       PgConnection::Connect(source, PgConnection::Mode::kNormal, deadline));
  ETL_ASSIGN_OR_RETURN(
      const PgResult result,
      connection->Query("SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE "
                        "pg_current_wal_insert_lsn() END, (SELECT setting FROM pg_settings WHERE "
                        "name = 'wal_segment_size')",
                        deadline));
  return NormaliseInsertLsn(result.LsnAt(0, 0), static_cast<uint64_t>(result.Int(0, 1)));
}

namespace {

// How long a pipeline that another process runs may look stopped after it was told to start.
constexpr auto kStartTime = std::chrono::seconds(2);
constexpr auto kStatusEvery = std::chrono::seconds(1);

// A pipeline that another process runs, as far as its status tells.
struct Awaited {
  UnixMicros asked_at = 0;  ///< what was seen before tells nothing
  int64_t request = 0;
  Instant obeyed_since = kNever;
  Instant stopped_since = kNever;
  Lsn position;
  int64_t rows = 0;
  int64_t most_rows = 0;
  bool retried = false;  ///< since the position moved last
  std::string error;     ///< what made it retry
  Instant progress{};
};

struct Syncing {
  std::string name;
  std::unique_ptr<RunnerLock> lock;
  std::unique_ptr<Supervisor> supervisor;  ///< null: another process runs the pipeline
  Lsn target;
  Awaited awaited;
  bool done = false;
  Status outcome;
};

void WaitALittle(ControlContext& context) {
  pollfd fd{.fd = context.interrupt.changed().fd(), .events = POLLIN, .revents = 0};
  poll(&fd, 1, 50);
  if ((fd.revents & POLLIN) != 0) context.interrupt.changed().Clear();
}

// A table that `tables` no longer selects stays as it is: nothing about it is behind.
bool LeftOut(const TableStatus& table) {
  return table.phase == TablePhase::kStopped && !table.error.starts_with("ETL-S123");
}

bool AnyTableStopped(const PipelineStatus& status) {
  return std::any_of(status.tables.begin(), status.tables.end(), LeftOut);
}

bool Halted(const PipelineStatus& status) {
  return status.phase == PipelinePhase::kStopped || status.phase == PipelinePhase::kPaused;
}

bool AllTablesSettled(const PipelineStatus& status) {
  return status.phase != PipelinePhase::kCopying &&
         std::all_of(status.tables.begin(), status.tables.end(), [](const TableStatus& table) {
           return table.phase == TablePhase::kLive || table.phase == TablePhase::kStopped;
         });
}

Status LeftBehind(const std::string& name, const PipelineStatus& status) {
  std::string tables;
  for (const TableStatus& table : status.tables) {
    if (LeftOut(table)) tables += (tables.empty() ? "" : "; ") + table.name + ": " + table.error;
  }
  return MakeError(ErrorKind::kNegative, "ETL-S130",
                   "pipeline " + name + ": some tables were left behind: " + tables,
                   "mend the cause, then etl-stream pipeline resync " + name);
}

// Gives up with what stood in the way; a lost position is the verdict that the pipeline is behind.
Status Verdict(const Status& stopped_by) {
  ErrorParts parts = PartsOf(stopped_by);
  if (KindOf(stopped_by) == ErrorKind::kLost)
    return MakeError(ErrorKind::kNegative, std::move(parts));
  // The source was reached when its position was read: this is another error than never having
  // reached it.
  if (parts.code == "ETL-S101") parts.code = "ETL-S204";
  return MakeError(KindOf(stopped_by), std::move(parts));
}

// Asks the process that runs the pipeline to bring it there.
Status Await(ControlContext& context, Syncing& sync) {
  LogInfo("another process runs the pipeline; waiting until it has got there",
          {{"pipeline", sync.name}, {"target", FormatLsn(sync.target)}});
  sync.awaited = {.asked_at = context.clock.WallNow(), .progress = context.clock.Now()};
  ETL_ASSIGN_OR_RETURN(
      sync.awaited.request,
      context.catalog.PutRequest(sync.name, RequestKind::kSync, FormatLsn(sync.target)));
  return Status::OK();
}

// Runs the pipeline here, unless another process does.
Status RunOrAwait(ControlContext& context, Syncing& sync, ProcessResources& resources) {
  const PipelineConfig& definition = context.config->pipelines.at(sync.name);
  Result<std::unique_ptr<RunnerLock>> lock = context.catalog.TryLockPipeline(sync.name);
  if (!lock.ok()) {
    return KindOf(lock.status()) == ErrorKind::kBusy ? Await(context, sync) : lock.status();
  }
  sync.lock = std::move(*lock);
  ETL_ASSIGN_OR_RETURN(PipelineSpec spec, MakePipelineSpec(*context.config, sync.name, &resources));
  ETL_RETURN_IF_ERROR(TakeUpFigures(context.catalog, &spec));
  sync.supervisor = std::make_unique<Supervisor>(
      std::move(spec),
      RestartOptions{.max_delay = definition.retry_max_delay, .give_up = definition.retry_give_up},
      resources.budget(), context.clock);
  sync.supervisor->SetTarget(sync.target);
  ETL_ASSIGN_OR_RETURN(const std::vector<Request> requests,
                       context.catalog.TakeRequests(sync.name));
  for (const Request& request : requests) {
    // A resync stays in the catalog until it is fulfilled, whatever becomes of this process.
    if (request.kind == RequestKind::kResync) {
      sync.supervisor->Resync({.table = request.table, .id = request.id});
    } else {
      ETL_RETURN_IF_ERROR(context.catalog.Acknowledge(request.id));
    }
  }
  sync.supervisor->Start();
  return Status::OK();
}

Status StoppedElsewhere(const std::string& name, const PipelineStatus& status) {
  const bool paused = status.phase == PipelinePhase::kPaused;
  return MakeError(
      ErrorKind::kNegative,
      {.code = "ETL-S131",
       .what = "pipeline " + name + (paused ? " was paused" : " stopped") +
               " in the process that runs it",
       .why = status.error,
       .safe = "what is stored stays as it is",
       .remedy = (paused ? "" : "mend the cause, then ") + ("etl-stream pipeline start " + name)});
}

Status NoProgress(const std::string& name, const std::string& error) {
  return MakeError(ErrorKind::kTransient,
                   {.code = "ETL-S132",
                    .what = "pipeline " + name + " made no progress in the process that runs it",
                    .why = error,
                    .safe = "what is stored stays as it is",
                    .remedy = "etl-stream status " + name});
}

// True once there is nothing more to wait for: there, stopped, or without progress for too long.
Result<bool> LookElsewhere(ControlContext& context, Syncing& sync, ProcessResources& resources) {
  // The runner first: what it leaves behind is written before it ends.
  ETL_ASSIGN_OR_RETURN(const std::optional<int64_t> runner, context.catalog.RunnerOf(sync.name));
  ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> seen,
                       context.catalog.GetStatus(sync.name));
  Awaited& awaited = sync.awaited;
  const Instant now = context.clock.Now();
  const bool fresh = seen && seen->at > awaited.asked_at;
  if (fresh) {
    if (context.on_status) context.on_status(*seen);
    const bool reached = seen->position >= sync.target && seen->applied >= sync.target;
    if (!Halted(*seen) && reached && AllTablesSettled(*seen)) {
      if (!AnyTableStopped(*seen)) return true;
      // The request has them tried again: what shows before that is no verdict.
      if (awaited.obeyed_since != kNever && now - awaited.obeyed_since >= kStartTime)
        return LeftBehind(sync.name, *seen);
    }
  }
  if (!runner) {
    ETL_RETURN_IF_ERROR(context.catalog.Acknowledge(awaited.request));
    ETL_RETURN_IF_ERROR(RunOrAwait(context, sync, resources));
    return false;
  }
  ETL_ASSIGN_OR_RETURN(const RequestState request, context.catalog.StateOf(awaited.request));
  if (request.done && awaited.obeyed_since == kNever) awaited.obeyed_since = now;
  const bool halted = fresh && request.done && Halted(*seen);
  if (!halted) awaited.stopped_since = kNever;
  if (halted && awaited.stopped_since == kNever) awaited.stopped_since = now;
  if (halted && now - awaited.stopped_since >= kStartTime)
    return StoppedElsewhere(sync.name, *seen);
  int64_t rows = 0;
  if (fresh) {
    for (const TableStatus& table : seen->tables) rows += table.rows;
    const bool moved = seen->position > awaited.position && awaited.position < sync.target;
    if (moved) awaited.retried = false;
    if (seen->phase == PipelinePhase::kRetrying) {
      awaited.retried = true;
      awaited.error = seen->error;
    }
    // A copy that fails at the same place again and again reads the same rows every time.
    // Stored, and the destination is at work to show it: how long that takes is not ours to say.
    const bool showing = seen->position >= sync.target && seen->applied < sync.target &&
                         seen->phase == PipelinePhase::kRunning && !awaited.retried;
    if (moved || showing || rows > awaited.most_rows || (rows != awaited.rows && !awaited.retried))
      awaited.progress = now;
    awaited.position = std::max(awaited.position, seen->position);
    awaited.rows = rows;
    awaited.most_rows = std::max(awaited.most_rows, rows);
  }
  if (now - awaited.progress >= context.config->pipelines.at(sync.name).retry_give_up)
    return NoProgress(sync.name, awaited.error);
  return false;
}

Status BeginOne(ControlContext& context, Syncing& sync, ProcessResources& resources) {
  const PipelineConfig& definition = context.config->pipelines.at(sync.name);
  ETL_ASSIGN_OR_RETURN(const SourceOptions source, MakeSourceOptions(*context.config, definition));
  // Where the source stands is read before anything else.
  const Instant patience = context.clock.Now() + definition.retry_give_up;
  Backoff backoff(std::chrono::seconds(5), static_cast<uint64_t>(context.clock.WallNow()));
  while (true) {
    Result<Lsn> target = ReadSyncTarget(source, context.clock.Now() + std::chrono::seconds(30));
    if (target.ok()) {
      sync.target = *target;
      break;
    }
    const Instant again = context.clock.Now() + backoff.Next();
    if (PolicyFor(KindOf(target.status())) == Policy::kStop || again >= patience ||
        context.interrupt.stopping())
      return WithContext(target.status(), "pipeline " + sync.name);
    LogWarn("the source cannot be reached",
            {{"pipeline", sync.name}, {"error", ErrorLine(target.status())}});
    while (context.clock.Now() < again && !context.interrupt.stopping()) WaitALittle(context);
  }
  return RunOrAwait(context, sync, resources);
}

void AcknowledgeFulfilled(ControlContext& context, const Syncing& sync) {
  for (const int64_t id : sync.supervisor->TakeFulfilled()) {
    const Status acknowledged = context.catalog.Acknowledge(id);
    if (!acknowledged.ok())
      LogWarn("the catalog cannot be written", {{"error", ErrorLine(acknowledged)}});
  }
}

// True once there is nothing more to wait for.
bool LookAt(ControlContext& context, Syncing& sync, ProcessResources& resources) {
  if (sync.supervisor == nullptr) {
    const Result<bool> done = LookElsewhere(context, sync, resources);
    sync.outcome = done.status();
    return !done.ok() || *done;
  }
  AcknowledgeFulfilled(context, sync);
  if (const auto stopped = sync.supervisor->stopped_by(); stopped != nullptr) {
    sync.outcome = Verdict(*stopped);
    return true;
  }
  if (context.on_status) context.on_status(*sync.supervisor->status());
  if (!sync.supervisor->reached()) return false;
  const PipelineStatus status = *sync.supervisor->status();
  if (AnyTableStopped(status)) sync.outcome = LeftBehind(sync.name, status);
  return true;
}

void WriteStatus(ControlContext& context, const Syncing& sync) {
  if (sync.supervisor == nullptr) return;
  const Status written = context.catalog.PutStatus(*sync.supervisor->status());
  if (!written.ok()) LogWarn("the catalog cannot be written", {{"error", ErrorLine(written)}});
}

}  // namespace

std::vector<Status> RunSync(ControlContext& context) {
  ProcessResources resources(*context.config);
  std::vector<Syncing> syncs;
  for (const std::string& name : context.pipelines) syncs.push_back({.name = name});
  for (Syncing& sync : syncs) {
    sync.outcome = BeginOne(context, sync, resources);
    sync.done = !sync.outcome.ok();
  }
  Instant next_status{};
  while (!context.interrupt.stopping() &&
         std::any_of(syncs.begin(), syncs.end(), [](const Syncing& sync) { return !sync.done; })) {
    WaitALittle(context);
    for (Syncing& sync : syncs) {
      if (!sync.done) sync.done = LookAt(context, sync, resources);
    }
    if (context.clock.Now() < next_status) continue;
    for (const Syncing& sync : syncs) WriteStatus(context, sync);
    next_status = context.clock.Now() + kStatusEvery;
  }
  std::vector<Status> failures;
  const Instant deadline = context.clock.Now() + context.config->limits.shutdown;
  for (Syncing& sync : syncs) {
    if (sync.supervisor != nullptr) {
      sync.supervisor->Stop(deadline);
      AcknowledgeFulfilled(context, sync);
      WriteStatus(context, sync);
    }
    if (!sync.outcome.ok()) failures.push_back(sync.outcome);
  }
  // A failure says more than a verdict.
  std::stable_sort(failures.begin(), failures.end(), [](const Status& a, const Status& b) {
    return KindOf(a) == ErrorKind::kNegative && KindOf(b) != ErrorKind::kNegative;
  });
  return failures;
}

}  // namespace etl

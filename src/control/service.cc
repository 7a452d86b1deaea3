// `run`: pipelines as a service.
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "base/log.h"
#include "control/commands.h"
#include "control/drop.h"
#include "control/pipeline_factory.h"
#include "control/verify.h"
#include "control/verify_report.h"

namespace etl {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(250);
constexpr Duration kWriteStatus = std::chrono::seconds(1);

// A comparison that somebody asked for, on a thread of its own. Ends before what it compares.
class Verification {
 public:
  Verification(int64_t id, VerifyWork work) : id_(id) {
    work.stop = &stop_;
    thread_ = std::thread([this, work = std::move(work)] {
      outcome_ = VerdictToJson(VerifyRunning(work));
      done_ = true;
    });
  }
  ~Verification() {
    stop_ = true;
    thread_.join();
  }
  int64_t id() const { return id_; }
  void Cancel() { stop_ = true; }
  bool done() const { return done_; }
  /// Once done.
  const std::string& outcome() const { return outcome_; }

 private:
  const int64_t id_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> done_{false};
  std::string outcome_;  // Written before done_.
  std::thread thread_;
};

// One pipeline of the service: its lock, its definition and what runs it.
struct Running {
  std::unique_ptr<RunnerLock> lock;
  PipelineConfig definition;
  std::unique_ptr<Supervisor> supervisor;
  std::unique_ptr<Verification> verification;
  Lsn target;  ///< the furthest that a `sync` asked for
};

class Service {
 public:
  Service(ControlContext& context, std::function<std::shared_ptr<const Config>()> reload)
      : context_(context),
        reload_(std::move(reload)),
        config_(context.config),
        resources_(*config_) {}

  Status Run() {
    Status status = StartAll();
    while (status.ok() && !context_.interrupt.stopping()) {
      Wait();
      if (context_.interrupt.TakeReload()) Reload();
      for (auto& [name, running] : pipelines_) Obey(name, running);
      std::erase_if(pipelines_, [](const auto& entry) { return entry.second.lock == nullptr; });
      if (context_.clock.Now() >= next_status_) {
        WriteStatus();
        next_status_ = context_.clock.Now() + kWriteStatus;
      }
    }
    StopAll();
    return status;
  }

 private:
  Status StartAll() {
    begun_ = context_.clock.WallNow();
    for (const std::string& name : context_.pipelines) {
      Running& running = pipelines_[name];
      // Locks first: a second service must not touch anything.
      ETL_ASSIGN_OR_RETURN(running.lock, context_.catalog.TryLockPipeline(name));
    }
    for (auto& [name, running] : pipelines_) ETL_RETURN_IF_ERROR(StartOne(name, running));
    return Status::OK();
  }

  Status StartOne(const std::string& name, Running& running) {
    running.supervisor.reset();  // Its hold on the destination's file goes with it.
    ETL_ASSIGN_OR_RETURN(PipelineSpec spec, MakePipelineSpec(*config_, name, &resources_));
    running.definition = config_->pipelines.at(name);
    running.supervisor = std::make_unique<Supervisor>(
        std::move(spec),
        RestartOptions{.max_delay = running.definition.retry_max_delay, .give_up = std::nullopt},
        resources_.budget(), context_.clock);
    Result<bool> paused = context_.catalog.Paused(name);
    if (paused.ok() && *paused) running.supervisor->Pause();
    if (running.target.valid()) running.supervisor->SetTarget(running.target);
    running.supervisor->Start();
    Note(name, "start", "service");
    return Status::OK();
  }

  void Wait() {
    pollfd fd{.fd = context_.interrupt.changed().fd(), .events = POLLIN, .revents = 0};
    poll(&fd, 1,
         static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(kLook).count()));
    if ((fd.revents & POLLIN) != 0) context_.interrupt.changed().Clear();
  }

  void Obey(const std::string& name, Running& running) {
    Result<std::vector<Request>> requests = context_.catalog.TakeRequests(name);
    if (!requests.ok()) {
      LogWarn("the catalog cannot be read", {{"error", ErrorLine(requests.status())}});
      return;
    }
    bool verify_wanted = false;
    for (const Request& request : *requests) {
      // Nobody waits any more for what was asked of an earlier process.
      const bool stale = request.kind == RequestKind::kVerify && request.at < begun_;
      if (request.kind == RequestKind::kVerify && !stale) {
        verify_wanted |= Verify(name, running, request);
        continue;
      }
      std::string outcome;
      if (!stale) outcome = ObeyOne(name, running, request);
      Acknowledge(request.id, outcome);
      if (running.lock == nullptr) return;
    }
    if (running.verification == nullptr || verify_wanted) return;
    // Who asked has gone.
    if (running.verification->done()) {
      running.verification.reset();
    } else {
      running.verification->Cancel();
    }
  }

  std::string ObeyOne(const std::string& name, Running& running, const Request& request) {
    Note(name, "request",
         std::string(RequestKindName(request.kind)) +
             (request.table.empty() ? "" : " " + request.table));
    Supervisor& supervisor = *running.supervisor;
    switch (request.kind) {
      case RequestKind::kStart: supervisor.Resume(request.table); break;
      case RequestKind::kPause: supervisor.Pause(); break;
      case RequestKind::kResync: supervisor.Resync(request.table); break;
      case RequestKind::kSync:
        running.target = std::max(running.target, ParseLsn(request.table).value_or(Lsn{}));
        supervisor.Resume();
        supervisor.SetTarget(running.target);
        break;
      case RequestKind::kDrop: return Drop(name, running);
      case RequestKind::kVerify: break;
    }
    return "";
  }

  // True while the request is at work; one at a time for each pipeline.
  bool Verify(const std::string& name, Running& running, const Request& request) {
    if (running.verification == nullptr) {
      Note(name, "request", "verify");
      running.verification = std::make_unique<Verification>(
          request.id, VerifyWork{.config = config_,
                                 .table = request.table,
                                 .supervisor = running.supervisor.get(),
                                 .resources = &resources_,
                                 .clock = &context_.clock});
    }
    if (running.verification->id() != request.id) return false;
    if (!running.verification->done()) return true;
    Acknowledge(request.id, running.verification->outcome());
    running.verification.reset();
    return false;
  }

  void Acknowledge(int64_t id, const std::string& outcome) {
    const Status acknowledged = context_.catalog.Acknowledge(id, outcome);
    if (!acknowledged.ok())
      LogWarn("the catalog cannot be written", {{"error", ErrorLine(acknowledged)}});
  }

  // Nothing of the pipeline runs any more.
  void Halt(Running& running, Instant deadline) {
    running.verification.reset();
    if (running.supervisor != nullptr) running.supervisor->Stop(deadline);
  }

  // A pipeline without a lock is forgotten by the loop.
  std::string Drop(const std::string& name, Running& running) {
    Halt(running, context_.clock.Now() + config_->limits.shutdown);
    Status status = DropPipeline(*config_, name, &resources_, context_.clock);
    if (!status.ok()) {
      // It goes on as before; what is missing by now is told by the pipeline itself.
      const Status started = StartOne(name, running);
      if (!started.ok())
        LogError("pipeline could not be started",
                 {{"pipeline", name}, {"error", ErrorLine(started)}});
      return ErrorLine(status);
    }
    status = context_.catalog.Forget(name);
    if (!status.ok()) LogWarn("the catalog cannot be written", {{"error", ErrorLine(status)}});
    dropped_.insert(name);
    running.lock.reset();
    LogInfo(
        "pipeline was dropped; it is begun anew at the next start unless it is taken out of "
        "the configuration",
        {{"pipeline", name}});
    return "";
  }

  // Restarts the pipelines whose definition changed and leaves the others running; an invalid
  // configuration changes nothing.
  void Reload() {
    const std::shared_ptr<const Config> fresh = reload_ ? reload_() : nullptr;
    if (fresh == nullptr) return;
    const std::shared_ptr<const Config> old = std::exchange(config_, fresh);
    if (fresh->limits != old->limits || fresh->catalog != old->catalog)
      LogWarn("a changed `limits` or `catalog` takes effect at the next start of the process");
    std::erase_if(dropped_, [&](const auto& name) { return !fresh->pipelines.contains(name); });
    for (auto& [name, running] : pipelines_) {
      const Instant deadline = context_.clock.Now() + old->limits.shutdown;
      const auto definition = fresh->pipelines.find(name);
      if (definition == fresh->pipelines.end() || !definition->second.enabled) {
        LogInfo(definition == fresh->pipelines.end() ? "pipeline is no longer configured"
                                                     : "pipeline is no longer enabled",
                {{"pipeline", name}});
        Halt(running, deadline);
        PutStatus(running);
        running.lock.reset();
        continue;
      }
      const bool same = definition->second == running.definition &&
                        fresh->sources.at(definition->second.source) ==
                            old->sources.at(running.definition.source) &&
                        fresh->destinations.at(definition->second.destination) ==
                            old->destinations.at(running.definition.destination);
      if (same) continue;
      LogInfo("pipeline is started with its new definition", {{"pipeline", name}});
      Halt(running, deadline);
      const Status started = StartOne(name, running);
      if (!started.ok())
        LogError("pipeline could not be started",
                 {{"pipeline", name}, {"error", ErrorLine(started)}});
    }
    std::erase_if(pipelines_, [](const auto& entry) { return entry.second.lock == nullptr; });
    for (const auto& [name, definition] : fresh->pipelines) {
      if (!definition.enabled || pipelines_.contains(name) || dropped_.contains(name)) continue;
      Running running;
      Result<std::unique_ptr<RunnerLock>> lock = context_.catalog.TryLockPipeline(name);
      Status started = lock.status();
      if (lock.ok()) {
        running.lock = std::move(*lock);
        started = StartOne(name, running);
      }
      if (started.ok()) {
        pipelines_[name] = std::move(running);
        continue;
      }
      LogError("pipeline could not be started",
               {{"pipeline", name}, {"error", ErrorLine(started)}});
    }
  }

  void PutStatus(const Running& running) {
    if (running.supervisor == nullptr) return;
    const std::shared_ptr<const PipelineStatus> status = running.supervisor->status();
    const Status written = context_.catalog.PutStatus(*status);
    if (!written.ok()) LogWarn("the catalog cannot be written", {{"error", ErrorLine(written)}});
    if (context_.on_status) context_.on_status(*status);
  }

  void WriteStatus() {
    for (auto& [name, running] : pipelines_) PutStatus(running);
  }

  void StopAll() {
    const Instant deadline = context_.clock.Now() + config_->limits.shutdown;
    for (auto& [name, running] : pipelines_) {
      // Who waits for a verdict is told that there will be none from here.
      if (running.verification != nullptr) {
        const int64_t id = running.verification->id();
        running.verification.reset();
        Acknowledge(id, "");
      }
      Halt(running, deadline);
    }
    WriteStatus();
  }

  void Note(const std::string& name, std::string_view kind, const std::string& text) {
    const Status noted = context_.catalog.AddEvent(name, kind, text);
    if (!noted.ok()) LogWarn("the catalog cannot be written", {{"error", ErrorLine(noted)}});
  }

  ControlContext& context_;
  const std::function<std::shared_ptr<const Config>()> reload_;
  std::shared_ptr<const Config> config_;
  ProcessResources resources_;
  std::map<std::string, Running> pipelines_;
  std::set<std::string> dropped_;  ///< by request, though still configured
  UnixMicros begun_ = 0;
  Instant next_status_{};
};

}  // namespace

Status RunService(ControlContext& context,
                  const std::function<std::shared_ptr<const Config>()>& reload) {
  return Service(context, reload).Run();
}

}  // namespace etl

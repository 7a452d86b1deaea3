// `run`: pipelines as a service.
#include <poll.h>

#include <algorithm>
#include <map>
#include <utility>

#include "base/log.h"
#include "control/commands.h"
#include "control/drop.h"
#include "control/pipeline_factory.h"

namespace etl {
namespace {

constexpr Duration kLook = std::chrono::milliseconds(250);
constexpr Duration kWriteStatus = std::chrono::seconds(1);

// One pipeline of the service: its lock, its definition and what runs it.
struct Running {
  std::unique_ptr<RunnerLock> lock;
  PipelineConfig definition;
  std::unique_ptr<Supervisor> supervisor;
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
    for (const std::string& name : context_.pipelines) {
      Running& running = pipelines_[name];
      // Locks first: a second service must not touch anything.
      ETL_ASSIGN_OR_RETURN(running.lock, context_.catalog.TryLockPipeline(name));
    }
    for (auto& [name, running] : pipelines_) ETL_RETURN_IF_ERROR(StartOne(name, running));
    return Status::OK();
  }

  Status StartOne(const std::string& name, Running& running) {
    ETL_ASSIGN_OR_RETURN(PipelineSpec spec, MakePipelineSpec(*config_, name, &resources_));
    running.definition = config_->pipelines.at(name);
    running.supervisor = std::make_unique<Supervisor>(
        std::move(spec),
        RetryOptions{.max_delay = running.definition.retry_max_delay, .give_up = std::nullopt},
        resources_.budget(), context_.clock);
    Result<bool> paused = context_.catalog.Paused(name);
    if (paused.ok() && *paused) running.supervisor->Pause();
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
    for (const Request& request : *requests) {
      std::string outcome;
      switch (request.kind) {
        case RequestKind::kStart: running.supervisor->Resume(); break;
        case RequestKind::kPause: running.supervisor->Pause(); break;
        case RequestKind::kResync: running.supervisor->Resync(request.table); break;
        case RequestKind::kDrop: outcome = Drop(name, running); break;
      }
      Note(name, "request",
           std::string(RequestKindName(request.kind)) +
               (request.table.empty() ? "" : " " + request.table));
      const Status acknowledged = context_.catalog.Acknowledge(request.id, outcome);
      if (!acknowledged.ok())
        LogWarn("the catalog cannot be written", {{"error", ErrorLine(acknowledged)}});
    }
  }

  std::string Drop(const std::string& name, Running& running) {
    running.supervisor->Stop(context_.clock.Now() + config_->limits.shutdown);
    const Status dropped = DropPipeline(*config_, name, &resources_, context_.clock);
    return dropped.ok() ? "" : ErrorLine(dropped);
  }

  // Restarts the pipelines whose definition changed and leaves the others running; an invalid
  // configuration changes nothing.
  void Reload() {
    const std::shared_ptr<const Config> fresh = reload_ ? reload_() : nullptr;
    if (fresh == nullptr) return;
    const std::shared_ptr<const Config> old = std::exchange(config_, fresh);
    for (auto& [name, running] : pipelines_) {
      const auto definition = fresh->pipelines.find(name);
      if (definition == fresh->pipelines.end()) {
        LogInfo("pipeline is no longer configured", {{"pipeline", name}});
        running.supervisor->Stop(context_.clock.Now() + old->limits.shutdown);
        continue;
      }
      const bool same = definition->second == running.definition &&
                        fresh->sources.at(definition->second.source) ==
                            old->sources.at(running.definition.source) &&
                        fresh->destinations.at(definition->second.destination) ==
                            old->destinations.at(running.definition.destination);
      if (same) continue;
      LogInfo("pipeline is started with its new definition", {{"pipeline", name}});
      running.supervisor->Stop(context_.clock.Now() + old->limits.shutdown);
      const Status started = StartOne(name, running);
      if (!started.ok())
        LogError("pipeline could not be started",
                 {{"pipeline", name}, {"error", ErrorLine(started)}});
    }
    for (const auto& [name, definition] : fresh->pipelines) {
      if (!definition.enabled || pipelines_.contains(name)) continue;
      Running& running = pipelines_[name];
      Result<std::unique_ptr<RunnerLock>> lock = context_.catalog.TryLockPipeline(name);
      Status started = lock.status();
      if (lock.ok()) {
        running.lock = std::move(*lock);
        started = StartOne(name, running);
      }
      if (started.ok()) continue;
      LogError("pipeline could not be started",
               {{"pipeline", name}, {"error", ErrorLine(started)}});
      pipelines_.erase(name);
      break;
    }
  }

  void WriteStatus() {
    for (auto& [name, running] : pipelines_) {
      if (running.supervisor == nullptr) continue;
      const std::shared_ptr<const PipelineStatus> status = running.supervisor->status();
      const Status written = context_.catalog.PutStatus(*status);
      if (!written.ok()) LogWarn("the catalog cannot be written", {{"error", ErrorLine(written)}});
      if (context_.on_status) context_.on_status(*status);
    }
  }

  void StopAll() {
    const Instant deadline = context_.clock.Now() + config_->limits.shutdown;
    for (auto& [name, running] : pipelines_) {
      if (running.supervisor != nullptr) running.supervisor->Stop(deadline);
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
  Instant next_status_{};
};

}  // namespace

Status RunService(ControlContext& context,
                  const std::function<std::shared_ptr<const Config>()>& reload) {
  return Service(context, reload).Run();
}

}  // namespace etl

#include "pipeline/supervisor.h"

#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "postgres/libpq_wal_stream.h"

namespace etl {
namespace {

// As long as a resync of everything at least stands for what it may turn out to need.
constexpr Duration kResyncStands = std::chrono::seconds(10);

}  // namespace

Policy PolicyFor(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kTransient:
    case ErrorKind::kThrottled:
    case ErrorKind::kBusy: return Policy::kRetry;
    default: return Policy::kStop;
  }
}

Supervisor::Supervisor(PipelineSpec spec, RestartOptions retry, ByteBudget* budget,
                       const Clock& clock)
    : spec_(std::move(spec)), retry_(retry), budget_(budget), clock_(clock) {
  spec_.source.stop = &stop_;
  Publish(nullptr, PipelinePhase::kStopped, "");
}

Supervisor::~Supervisor() { ETL_CHECK(!thread_.joinable()); }

void Supervisor::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Supervisor::Stop(Instant deadline) {
  stop_deadline_ = deadline;
  stop_ = true;
  wake_.Notify();
  if (thread_.joinable()) thread_.join();
}

void Supervisor::Pause() { Put({.kind = Request::Kind::kPause}); }
void Supervisor::Resume(std::string table) {
  Put({.kind = Request::Kind::kResume, .table = std::move(table)});
}
void Supervisor::Resync(ResyncWish wish) {
  Put({.kind = Request::Kind::kResync, .wish = std::move(wish)});
}
std::vector<int64_t> Supervisor::TakeFulfilled() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(fulfilled_, {});
}
void Supervisor::SetTarget(Lsn target) { Put({.kind = Request::Kind::kTarget, .target = target}); }
void Supervisor::WithPipeline(std::function<void(Pipeline&)> work) {
  Put({.kind = Request::Kind::kWork, .work = std::move(work)});
}

void Supervisor::Put(Request request) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests_.push_back(std::move(request));
  }
  wake_.Notify();
}

void Supervisor::Run() {
  Backoff backoff(retry_.max_delay,
                  reinterpret_cast<uintptr_t>(this) ^ static_cast<uint64_t>(clock_.WallNow()));
  while (!stop_) {
    TakeRequests(nullptr);
    if (paused_ || stopped_by_.Load() != nullptr) {
      if (paused_) Publish(nullptr, PipelinePhase::kPaused, "");
      WaitFor(std::chrono::seconds(1), nullptr);
      continue;
    }
    const Lsn before = last_durable_;
    const Instant begun = clock_.Now();
    started_ = progress_ = false;
    const Status outcome = Live();
    if (stop_ || outcome.ok()) continue;
    if (last_durable_ > before) backoff.Reset();
    if (RepairedByResync(outcome)) continue;
    const Instant now = clock_.Now();
    // A life that began may have worked well for long; one that did not begin has only failed.
    if (progress_ || !failing_since_) failing_since_ = started_ ? now : begun;
    const std::string line = ErrorLine(outcome);
    const bool patience_over = retry_.give_up && now - *failing_since_ >= *retry_.give_up;
    // A life that began was let in then; the next one reads the password anew.
    const bool refused = KindOf(outcome) == ErrorKind::kAuth;
    const bool let_in_before = refused && started_ && !was_refused_;
    was_refused_ = refused;
    if ((PolicyFor(KindOf(outcome)) == Policy::kStop && !let_in_before) || patience_over) {
      LogError(
          "pipeline stopped",
          {{"pipeline", spec_.name}, {"kind", ErrorKindName(KindOf(outcome))}, {"error", line}});
      stopped_by_.Store(std::make_shared<const Status>(outcome));
      Publish(nullptr, PipelinePhase::kStopped, line);
      changed_.Notify();
      continue;
    }
    const Duration pause = backoff.Next();
    LogWarn("pipeline will be started again",
            {{"pipeline", spec_.name},
             {"attempt", backoff.attempt()},
             {"in_seconds", static_cast<double>(pause.count()) / 1e9},
             {"kind", ErrorKindName(KindOf(outcome))},
             {"error", line}});
    Publish(nullptr, PipelinePhase::kRetrying, line);
    changed_.Notify();
    const Instant until = now + pause;
    while (!stop_ && clock_.Now() < until && !paused_) {
      WaitFor(until - clock_.Now(), nullptr);
      TakeRequests(nullptr);
    }
  }
  Publish(nullptr, paused_ ? PipelinePhase::kPaused : PipelinePhase::kStopped,
          stopped_by_.Load() == nullptr ? "" : ErrorLine(*stopped_by_.Load()));
}

// That the server cannot decode what comes next is seen only when it is tried, perhaps after the
// resync was asked for.
bool Supervisor::RepairedByResync(const Status& outcome) {
  if (!resync_asked_ || KindOf(outcome) != ErrorKind::kLost) return false;
  resync_asked_.reset();
  history_ = History::kReplace;
  LogWarn("pipeline begins anew, as asked",
          {{"pipeline", spec_.name}, {"because", ErrorLine(outcome)}});
  return true;
}

void Supervisor::ForgetResyncOnceDone(const Pipeline& pipeline) {
  const std::shared_ptr<const PipelineStatus> seen = pipeline.status();
  if (resync_asked_ && seen != nullptr && seen->phase == PipelinePhase::kRunning &&
      clock_.Now() - *resync_asked_ > kResyncStands) {
    resync_asked_.reset();
  }
}

// Counts go on where the life before left them.
void Supervisor::TakeUpNulled() {
  for (const TableStatus& table : status_.Load()->tables) {
    if (table.id.oid != 0) spec_.reader.nulled[table.id] = table.nulled;
  }
}

Status Supervisor::Live() {
  target_sent_ = false;
  wishes_sent_ = 0;
  wishes_done_ = 0;
  TakeUpNulled();
  const bool whole = std::any_of(wishes_.begin(), wishes_.end(),
                                 [](const ResyncWish& wish) { return wish.table.empty(); });
  if (whole && history_ == History::kKeep) history_ = History::kReplaceIfLost;
  const Lsn before = last_durable_;
  Result<std::unique_ptr<Pipeline>> started = Pipeline::Start(spec_, history_, budget_, clock_);
  if (!started.ok()) return started.status();
  history_ = History::kKeep;
  started_ = true;
  Pipeline& pipeline = **started;
  while (!stop_ && !paused_ && !pipeline.ended()) {
    TakeRequests(&pipeline);
    Forward(pipeline);
    NoteProgress(pipeline);
    NoteFulfilled(pipeline);
    ForgetResyncOnceDone(pipeline);
    Publish(&pipeline, PipelinePhase::kRunning, "");
    const bool reached = pipeline.board().reached;
    if (reached != reached_.exchange(reached)) changed_.Notify();
    WaitFor(std::chrono::milliseconds(200), &pipeline);
  }
  const Instant deadline = stop_ ? stop_deadline_.load() : clock_.Now() + spec_.shutdown;
  const Status outcome = pipeline.Stop(deadline);
  NoteProgress(pipeline);
  NoteFulfilled(pipeline);
  // The next life does without; a later one tries again, once this one got on.
  if (PartsOf(outcome).code == kOpenTransactionFailed) {
    spec_.streaming = false;
  } else if (last_durable_ > before) {
    spec_.streaming = true;
  }
  Publish(&pipeline, paused_ ? PipelinePhase::kPaused : PipelinePhase::kStopped, "");
  return outcome;
}

void Supervisor::NoteProgress(Pipeline& pipeline) {
  const Lsn durable{pipeline.board().durable};
  // The first position that is seen was stored by somebody before.
  const bool wanted = !target_.valid() || last_durable_ < target_;
  if (last_durable_.valid() && durable > last_durable_ && wanted) progress_ = true;
  last_durable_ = std::max(last_durable_, durable);
  const std::shared_ptr<const PipelineStatus> status = pipeline.status();
  if (status != nullptr && CopiedFurther(*status)) progress_ = true;
}

// A copy that fails at the same place again and again reads the same rows every time.
bool Supervisor::CopiedFurther(const PipelineStatus& status) {
  bool further = false;
  for (const TableStatus& table : status.tables) {
    if (table.phase == TablePhase::kLive) {
      further = copied_.erase(table.name) > 0 || further;
    } else if (table.phase == TablePhase::kCopying) {
      const auto [before, first] = copied_.try_emplace(table.name, 0);
      if (table.rows <= before->second) continue;
      before->second = table.rows;
      further = true;
    }
  }
  return further;
}

void Supervisor::TakeRequests(Pipeline* pipeline) {
  std::deque<Request> requests;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    requests.swap(requests_);
  }
  for (Request& request : requests) {
    switch (request.kind) {
      case Request::Kind::kPause: paused_ = true; break;
      case Request::Kind::kResume:
        paused_ = false;
        stopped_by_.Store(nullptr);
        failing_since_.reset();
        if (pipeline != nullptr) retries_.push_back(std::move(request.table));
        break;
      case Request::Kind::kResync: TakeWish(std::move(request.wish)); break;
      case Request::Kind::kTarget:
        target_ = request.target;
        target_sent_ = false;
        reached_ = false;
        break;
      case Request::Kind::kWork: work_.push_back(std::move(request.work)); break;
    }
  }
}

void Supervisor::TakeWish(ResyncWish wish) {
  if (wish.start) {
    paused_ = false;
    stopped_by_.Store(nullptr);
    failing_since_.reset();
  }
  copied_.clear();
  if (wish.table.empty()) resync_asked_ = clock_.Now();
  wishes_.push_back(std::move(wish));
}

void Supervisor::NoteFulfilled(Pipeline& pipeline) {
  const uint64_t stored = pipeline.board().resyncs_stored;
  const std::lock_guard<std::mutex> lock(mutex_);
  for (; wishes_done_ < stored; ++wishes_done_) {
    if (wishes_.front().id != 0) fulfilled_.push_back(wishes_.front().id);
    wishes_.pop_front();
    --wishes_sent_;
  }
}

void Supervisor::Forward(Pipeline& pipeline) {
  while (wishes_sent_ < wishes_.size() &&
         pipeline.Command(etl::Resync{.table = wishes_[wishes_sent_].table}))
    ++wishes_sent_;
  for (std::string& table : std::exchange(retries_, {}))
    pipeline.Command(RetryStopped{.table = std::move(table)});
  if (!target_sent_ && target_.valid()) {
    pipeline.Command(etl::SetTarget{.lsn = target_});
    target_sent_ = true;
  }
  for (auto& work : std::exchange(work_, {})) work(pipeline);
}

void Supervisor::Publish(const Pipeline* pipeline, PipelinePhase phase, const std::string& error) {
  auto status = std::make_shared<PipelineStatus>();
  const std::shared_ptr<const PipelineStatus> seen =
      pipeline == nullptr ? status_.Load() : pipeline->status();
  if (seen != nullptr) *status = *seen;
  status->name = spec_.name;
  if (pipeline == nullptr || phase != PipelinePhase::kRunning) status->phase = phase;
  if (pipeline != nullptr && seen == nullptr) status->phase = PipelinePhase::kCopying;
  if (pipeline == nullptr) status->error = error;
  if (pipeline != nullptr) {
    status->latency_p50_us = pipeline->stored_latency().QuantileMicros(0.5).value_or(-1);
    status->latency_p99_us = pipeline->stored_latency().QuantileMicros(0.99).value_or(-1);
  }
  status->at = clock_.WallNow();
  status_.Store(std::move(status));
}

void Supervisor::WaitFor(Duration time, Pipeline* pipeline) {
  pollfd fds[2] = {{.fd = wake_.fd(), .events = POLLIN, .revents = 0},
                   {.fd = -1, .events = POLLIN, .revents = 0}};
  if (pipeline != nullptr) fds[1].fd = pipeline->board().changed.fd();
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(time).count();
  poll(fds, pipeline == nullptr ? 1 : 2, static_cast<int>(std::clamp<int64_t>(millis, 1, 60000)));
  if ((fds[0].revents & POLLIN) != 0) wake_.Clear();
  if ((fds[1].revents & POLLIN) != 0) pipeline->board().changed.Clear();
}

}  // namespace etl

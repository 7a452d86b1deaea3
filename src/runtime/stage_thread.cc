#include "runtime/stage_thread.h"

#include <pthread.h>

#include <algorithm>

#include "base/check.h"

namespace etl {

StageThread::StageThread(std::string name, Stage* stage, const Clock& clock,
                         std::function<void(const Status&)> on_end)
    : name_(std::move(name)), stage_(stage), clock_(clock), on_end_(std::move(on_end)) {}

StageThread::~StageThread() { ETL_CHECK(!thread_.joinable()); }

void StageThread::Start() {
  thread_ = std::thread([this] { Run(); });
}

void StageThread::Stop() {
  stop_.store(true, std::memory_order_release);
  wake_.Notify();
}

void StageThread::Join() {
  if (thread_.joinable()) thread_.join();
}

void StageThread::Run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  std::vector<pollfd> fds;
  Status outcome;
  while (!stop_.load(std::memory_order_acquire)) {
    Result<Wake> wake = stage_->Step(clock_.Now());
    if (!wake.ok()) {
      outcome = wake.status();
      break;
    }
    if (wake->worked) continue;
    fds.clear();
    fds.push_back({.fd = wake_.fd(), .events = POLLIN, .revents = 0});
    stage_->AddPollFds(fds);
    timespec timeout{};
    timespec* limit = nullptr;
    if (wake->by != kNever) {
      const auto nanos = std::max<int64_t>(0, (wake->by - clock_.Now()).count());
      timeout = {.tv_sec = static_cast<time_t>(nanos / 1'000'000'000),
                 .tv_nsec = static_cast<long>(nanos % 1'000'000'000)};
      limit = &timeout;
    }
    ppoll(fds.data(), fds.size(), limit, nullptr);
    if ((fds[0].revents & POLLIN) != 0) wake_.Clear();
  }
  if (on_end_) on_end_(outcome);
}

}  // namespace etl

#pragma once

#include <atomic>

#include "runtime/event_fd.h"

namespace etl {

/// What the person or the service manager asked of the process. Set by the thread that receives
/// signals, looked at by the thread that controls the work; both from any thread.
class Interrupt {
 public:
  /// Asks for a graceful end (the first SIGINT or SIGTERM).
  void RequestStop() {
    stopping_.store(true, std::memory_order_release);
    changed_.Notify();
  }
  /// Asks to read the configuration again (SIGHUP).
  void RequestReload() {
    reload_.store(true, std::memory_order_release);
    changed_.Notify();
  }
  bool stopping() const { return stopping_.load(std::memory_order_acquire); }
  /// The same, for calls that block and look at it meanwhile.
  const std::atomic<bool>& stop_flag() const { return stopping_; }
  /// true once for each time a reload was asked for.
  bool TakeReload() { return reload_.exchange(false, std::memory_order_acq_rel); }
  /// Readable after either was asked for; `changed().Clear()` before looking.
  EventFd& changed() { return changed_; }

 private:
  std::atomic<bool> stopping_{false};
  std::atomic<bool> reload_{false};
  EventFd changed_;
};

}  // namespace etl

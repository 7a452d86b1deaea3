#pragma once

#include <thread>

#include <signal.h>

#include "runtime/event_fd.h"
#include "runtime/interrupt.h"

namespace etl {

/// Turns signals into an Interrupt: the first SIGINT or SIGTERM asks to drain, the second ends the
/// process at once, SIGHUP asks to read the configuration again. Made on the main thread before any
/// other thread, so that all of them inherit the blocked signals and only the thread in here
/// receives them. SIGPIPE is ignored meanwhile: a write tells.
class SignalWatcher {
 public:
  explicit SignalWatcher(Interrupt& interrupt);
  ~SignalWatcher();
  SignalWatcher(const SignalWatcher&) = delete;
  SignalWatcher& operator=(const SignalWatcher&) = delete;

 private:
  void Watch();

  Interrupt& interrupt_;
  EventFd end_;
  sigset_t before_;
  int signals_ = -1;
  std::thread thread_;
};

}  // namespace etl

#pragma once

#include <atomic>
#include <functional>
#include <string>
#include <thread>

#include "base/status.h"
#include "runtime/event_fd.h"
#include "runtime/stage.h"

namespace etl {

/// Runs one stage on a thread of its own: Step and, when nothing was done, poll until `by`. Ends
/// after Stop, or when a Step fails; `on_end` is then called once, on that thread, with the
/// outcome. Made, started and joined by one owner.
class StageThread {
 public:
  StageThread(std::string name, Stage* stage, const Clock& clock,
              std::function<void(const Status&)> on_end);
  /// Must have been joined.
  ~StageThread();
  void Start();
  /// Any thread; the stage ends after the Step at hand.
  void Stop();
  /// Makes the stage take a Step soon; any thread.
  void Wakeup() { wake_.Notify(); }
  void Join();

 private:
  void Run();

  const std::string name_;
  Stage* const stage_;
  const Clock& clock_;
  const std::function<void(const Status&)> on_end_;
  std::atomic<bool> stop_{false};
  EventFd wake_;
  std::thread thread_;
};

}  // namespace etl

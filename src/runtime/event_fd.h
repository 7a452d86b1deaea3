#pragma once

#include <atomic>

namespace etl {

/// A descriptor that becomes readable when notified; the one way a thread wakes another's poll.
class EventFd {
 public:
  EventFd();
  ~EventFd();
  EventFd(const EventFd&) = delete;
  EventFd& operator=(const EventFd&) = delete;
  /// Any thread. Async-signal-safe.
  void Notify();
  /// The waiting thread, after poll.
  void Clear();
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace etl

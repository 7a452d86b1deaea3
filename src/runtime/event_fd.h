#pragma once

#include <atomic>

namespace etl {

/// A descriptor that becomes readable when notified; the one way a thread wakes another's poll.
///
/// The waiting thread calls Clear first and looks at what it waits for afterwards: then nothing is
/// missed, and a system call is made only for the first notification after a Clear.
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
  std::atomic<bool> notified_{false};  ///< the descriptor is readable, or just about to be
};

}  // namespace etl

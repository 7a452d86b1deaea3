#pragma once

#include <deque>

#include "base/clock.h"

namespace etl {

/// At most so many requests in any window of so long. One owner; time is passed in.
class RequestWindow {
 public:
  RequestWindow(size_t requests, Duration window) : requests_(requests), window_(window) {}
  /// When the next one may be sent: `now`, or later.
  Instant next(Instant now) const {
    if (sent_.size() < requests_) return now;
    const Instant free = sent_.front() + window_;
    return free > now ? free : now;
  }
  /// One is sent now.
  void Sent(Instant now) {
    if (sent_.size() >= requests_) sent_.pop_front();
    sent_.push_back(now);
  }

 private:
  const size_t requests_;
  const Duration window_;
  std::deque<Instant> sent_;
};

}  // namespace etl

#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "base/clock.h"

namespace etl {

/// At most so many requests, and so many bytes in them, in any window of so long. One owner; time
/// is passed in.
class RequestWindow {
 public:
  RequestWindow(size_t requests, int64_t bytes, Duration window)
      : requests_(requests), bytes_(bytes), window_(window) {}

  /// When the next one, with so many bytes, may be sent: `now`, or later. One that is larger than
  /// the limit goes alone.
  Instant next(Instant now, int64_t bytes = 0) const {
    Instant free = now;
    size_t count = sent_.size();
    int64_t sum = sum_;
    for (const Request& sent : sent_) {
      if (count < requests_ && (bytes == 0 || sum == 0 || sum + bytes <= bytes_)) break;
      free = std::max(free, sent.at + window_);
      --count;
      sum -= sent.bytes;
    }
    return free;
  }
  /// When it is best sent by who can also gather more for it: at once after a quiet time, then at
  /// distances that grow so that the requests of a window, in a row, last for all of it. All at
  /// once would leave none for its rest.
  Instant paced(Instant now) const {
    if (sent_.empty()) return now;
    const auto used = std::count_if(sent_.begin(), sent_.end(),
                                    [&](const Request& sent) { return sent.at + window_ > now; });
    const auto requests = static_cast<int64_t>(requests_);
    return std::max(now, sent_.back().at + window_ * 2 * used / (requests * (requests + 1)));
  }
  /// One is sent now.
  void Sent(Instant now, int64_t bytes = 0) {
    while (!sent_.empty() && sent_.front().at + window_ <= now) {
      sum_ -= sent_.front().bytes;
      sent_.pop_front();
    }
    sent_.push_back({now, bytes});
    sum_ += bytes;
  }
  /// The newest was answered: it counts from now on, since it may have come as late as this.
  void Answered(Instant now) {
    if (!sent_.empty()) sent_.back().at = now;
  }

 private:
  struct Request {
    Instant at;
    int64_t bytes;
  };
  const size_t requests_;
  const int64_t bytes_;
  const Duration window_;
  std::deque<Request> sent_;
  int64_t sum_ = 0;
};

}  // namespace etl

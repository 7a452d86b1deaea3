#pragma once

#include <algorithm>

#include "base/clock.h"
#include "base/random.h"

namespace etl {

/// Growing pauses with jitter: 0.5–1 times 100 ms · 2^n, up to `max`. One owner.
class Backoff {
 public:
  Backoff(Duration max, uint64_t seed) : max_(max), random_(seed) {}
  Duration Next() {
    const Duration full = std::min<Duration>(
        max_, std::chrono::milliseconds(100) * (int64_t{1} << std::min(attempt_, 20)));
    ++attempt_;
    return std::chrono::duration_cast<Duration>(full * (0.5 + 0.5 * random_.Unit()));
  }
  void Reset() { attempt_ = 0; }
  int attempt() const { return attempt_; }

 private:
  Duration max_;
  Random random_;
  int attempt_ = 0;
};

}  // namespace etl

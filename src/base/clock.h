#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace etl {

/// Monotonic time. All deadlines and intervals are in it; the simulator makes its own.
using Instant = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;
using Duration = std::chrono::nanoseconds;
inline constexpr Instant kNever = Instant::max();

/// Wall-clock time: microseconds since 1970-01-01 UTC. Only shown and measured, never used for
/// order.
using UnixMicros = int64_t;

/// Where time comes from; passed in, so that the simulator can own it. Safe from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Instant Now() const = 0;
  virtual UnixMicros WallNow() const = 0;
};

/// The machine's clock.
const Clock& SystemClock();

/// RFC 3339 in UTC with microseconds trimmed to what is needed: 2026-11-23T17:49:14.25Z.
std::string FormatUtc(UnixMicros time);

}  // namespace etl

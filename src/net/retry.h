#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/clock.h"
#include "base/random.h"

namespace etl {

struct RetryOptions {
  Duration initial = std::chrono::seconds(1);
  double factor = 2;
  Duration cap = std::chrono::seconds(30);
  double jitter = 0.5;  ///< share of a pause that is left to chance: 0 none, 1 all of it
  Duration within = std::chrono::minutes(2);  ///< from the first attempt; nothing is begun later
};

/// When one request may be sent again: growing pauses with jitter, never before the time that the
/// other side asked for, never after the deadline. Pure; one owner.
class RetrySchedule {
 public:
  RetrySchedule(const RetryOptions& options, Instant begun, uint64_t seed)
      : options_(options), deadline_(begun + options.within), random_(seed) {}

  /// After a failed attempt: when to make the next one, or none if there is no time left for it.
  std::optional<Instant> Next(Instant now, std::optional<Duration> retry_after = std::nullopt);
  /// Attempts that have failed.
  int failed() const { return failed_; }
  Instant deadline() const { return deadline_; }

 private:
  RetryOptions options_;
  Instant deadline_;
  Random random_;
  int failed_ = 0;
};

/// The pause that a `Retry-After` header asks for: seconds, or a date (RFC 9110 section 10.2.3) of
/// any of the three forms. None if it cannot be read; zero if the date is past.
std::optional<Duration> ParseRetryAfter(std::string_view value, UnixMicros wall_now);

/// Such a date, in seconds since 1970; none if `value` is something else.
std::optional<int64_t> ParseHttpDate(std::string_view value);

}  // namespace etl

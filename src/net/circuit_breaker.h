#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "base/clock.h"

namespace etl {

struct BreakerOptions {
  int failures = 5;                            ///< so many …
  Duration within = std::chrono::seconds(60);  ///< … within so long open it
  Duration open = std::chrono::seconds(30);    ///< then nothing is sent for so long
  int successes = 2;                           ///< then so many in a row close it
};

/// Keeps a service that is down from being asked again and again. Closed: everything may pass.
/// Open: nothing. Half-open: one request at a time, as a trial; a failure opens it again, enough
/// successes close it. Pure: time is passed in and may stand still, but not go back. One owner.
class CircuitBreaker {
 public:
  enum class State : uint8_t { kClosed, kOpen, kHalfOpen };
  /// Which time of being closed or tried a request belongs to: its outcome says nothing about a
  /// later one.
  using Ticket = uint64_t;

  explicit CircuitBreaker(BreakerOptions options) : options_(options) {}

  /// Whether a request may be sent. Each ticket is given back once, to one of the three below.
  std::optional<Ticket> Admit(Instant now);
  void Succeeded(Ticket ticket);
  void Failed(Ticket ticket, Instant now);
  /// The request ended without saying anything about the service: cancelled, or asked to wait.
  void Dropped(Ticket ticket);

  State state(Instant now) const;
  /// When Admit may come to say yes by itself: `now` if it would, kNever while a trial is out.
  Instant admits_at(Instant now) const;

 private:
  void Enter(bool closed);

  const BreakerOptions options_;
  bool closed_ = true;
  Ticket era_ = 0;
  std::deque<Instant> failures_;  ///< while closed, the ones that are not forgotten yet
  Instant opened_at_{};
  bool trial_out_ = false;
  int successes_ = 0;  ///< of trials, in a row
};

}  // namespace etl

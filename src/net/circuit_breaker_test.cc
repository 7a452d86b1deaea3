#include "net/circuit_breaker.h"

#include <vector>

#include <gtest/gtest.h>

#include "base/random.h"

namespace etl {
namespace {

using std::chrono::seconds;
using State = CircuitBreaker::State;

constexpr Instant kStart{seconds(1000)};

void FailTimes(CircuitBreaker& breaker, int times, Instant now) {
  for (int i = 0; i < times; ++i) breaker.Failed(breaker.Admit(now).value(), now);
}

TEST(CircuitBreaker, OpensAfterFiveFailuresWithinAMinute) {
  CircuitBreaker breaker({});
  FailTimes(breaker, 4, kStart);
  EXPECT_TRUE(breaker.Admit(kStart + seconds(60)).has_value());
  FailTimes(breaker, 1, kStart + seconds(60));
  EXPECT_EQ(breaker.state(kStart + seconds(60)), State::kOpen);
  EXPECT_FALSE(breaker.Admit(kStart + seconds(89)).has_value());
  EXPECT_EQ(breaker.admits_at(kStart + seconds(60)), kStart + seconds(90));
}

TEST(CircuitBreaker, ForgetsFailuresThatAreOld) {
  CircuitBreaker breaker({});
  for (int i = 0; i < 20; ++i) FailTimes(breaker, 1, kStart + seconds(16) * i);
  EXPECT_EQ(breaker.state(kStart + seconds(320)), State::kClosed);
}

TEST(CircuitBreaker, TriesOneRequestAtATimeAndClosesAfterTwoSuccesses) {
  CircuitBreaker breaker({});
  FailTimes(breaker, 5, kStart);
  const Instant later = kStart + seconds(30);
  const auto first = breaker.Admit(later);
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(breaker.Admit(later).has_value());
  EXPECT_EQ(breaker.admits_at(later), kNever);
  breaker.Succeeded(*first);
  EXPECT_EQ(breaker.state(later), State::kHalfOpen);
  breaker.Succeeded(breaker.Admit(later).value());
  EXPECT_EQ(breaker.state(later), State::kClosed);
}

TEST(CircuitBreaker, AFailedTrialOpensItAgain) {
  CircuitBreaker breaker({});
  FailTimes(breaker, 5, kStart);
  const Instant later = kStart + seconds(31);
  breaker.Succeeded(breaker.Admit(later).value());
  FailTimes(breaker, 1, later);
  EXPECT_EQ(breaker.state(later + seconds(29)), State::kOpen);
  EXPECT_EQ(breaker.state(later + seconds(30)), State::kHalfOpen);
}

TEST(CircuitBreaker, LateAnswersFromBeforeItOpenedChangeNothing) {
  CircuitBreaker breaker({});
  const auto slow = breaker.Admit(kStart);
  const auto slower = breaker.Admit(kStart);
  FailTimes(breaker, 5, kStart);
  const Instant later = kStart + seconds(30);
  const auto trial = breaker.Admit(later);
  breaker.Succeeded(*slow);
  breaker.Failed(*slower, later);
  EXPECT_EQ(breaker.state(later), State::kHalfOpen);
  EXPECT_FALSE(breaker.Admit(later).has_value());
  breaker.Dropped(*trial);
  EXPECT_TRUE(breaker.Admit(later).has_value());
}

// Against a plain model: what a list of all outcomes says.
TEST(CircuitBreaker, HoldsItsPromisesUnderAnyHistory) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    Random random(seed);
    const BreakerOptions options{.failures = 1 + static_cast<int>(random.Below(6)),
                                 .within = seconds(1 + random.Below(90)),
                                 .open = seconds(1 + random.Below(40)),
                                 .successes = 1 + static_cast<int>(random.Below(3))};
    CircuitBreaker breaker(options);
    Instant now = kStart;
    std::vector<CircuitBreaker::Ticket> out;
    std::vector<Instant> failures;  // of tickets given out since it was last closed
    for (int i = 0; i < 500; ++i) {
      now += seconds(random.Below(4));
      const State before = breaker.state(now);
      if (out.empty() || random.OneIn(2)) {
        const bool due = breaker.admits_at(now) <= now;
        const auto ticket = breaker.Admit(now);
        EXPECT_EQ(ticket.has_value(), due);
        EXPECT_TRUE(before != State::kOpen || !ticket.has_value());
        EXPECT_TRUE(before != State::kClosed || ticket.has_value());
        if (ticket.has_value()) out.push_back(*ticket);
        continue;
      }
      const size_t at = random.Below(out.size());
      const CircuitBreaker::Ticket ticket = out[at];
      out.erase(out.begin() + static_cast<ptrdiff_t>(at));
      switch (random.Below(3)) {
        case 0: breaker.Succeeded(ticket); break;
        case 1:
          breaker.Failed(ticket, now);
          failures.push_back(now);
          break;
        default: breaker.Dropped(ticket); break;
      }
      const State after = breaker.state(now);
      if (before == State::kOpen) {
        EXPECT_EQ(after, State::kOpen);
      }
      if (before == State::kClosed && after != State::kClosed) {
        // It opened: enough failures were recent.
        int recent = 0;
        for (Instant failure : failures) recent += now - failure <= options.within ? 1 : 0;
        EXPECT_GE(recent, options.failures);
        EXPECT_EQ(breaker.admits_at(now), now + options.open);
      }
    }
    // Whatever happened: with good answers it closes in the end.
    for (CircuitBreaker::Ticket ticket : out) breaker.Dropped(ticket);
    now += options.open;
    for (int i = 0; i < options.successes; ++i) {
      const auto ticket = breaker.Admit(now);
      ASSERT_TRUE(ticket.has_value());
      breaker.Succeeded(*ticket);
    }
    EXPECT_EQ(breaker.state(now), State::kClosed);
  }
}

}  // namespace
}  // namespace etl

#include "net/retry.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Instant kFirstTry{seconds(1000)};
constexpr UnixMicros kWall = 784111777LL * 1'000'000;  // Sun, 06 Nov 1994 08:49:37 GMT

TEST(Retry, PausesGrowToTheirCapAndStayWithinTheirJitter) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    RetrySchedule schedule({.initial = seconds(1),
                            .factor = 2,
                            .cap = seconds(8),
                            .jitter = 0.5,
                            .within = std::chrono::hours(1)},
                           kFirstTry, seed);
    double full = 1;
    for (int i = 0; i < 10; ++i) {
      const std::optional<Instant> next = schedule.Next(kFirstTry);
      ASSERT_TRUE(next.has_value());
      const double pause = std::chrono::duration<double>(*next - kFirstTry).count();
      EXPECT_GE(pause, full * 0.5 - 1e-6);
      EXPECT_LE(pause, full + 1e-6);
      full = std::min(full * 2, 8.0);
    }
  }
}

TEST(Retry, NothingIsBegunAfterTheDeadline) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    RetrySchedule schedule({.within = seconds(20)}, kFirstTry, seed);
    Instant now = kFirstTry;
    while (const std::optional<Instant> next = schedule.Next(now)) {
      ASSERT_GT(*next, now);
      ASSERT_LT(*next, schedule.deadline());
      now = *next + milliseconds(100);
    }
    EXPECT_LE(now, schedule.deadline() + milliseconds(100));
  }
}

TEST(Retry, AnAskedForPauseIsNeverCutShort) {
  RetrySchedule schedule({.initial = milliseconds(1), .within = seconds(60)}, kFirstTry, 1);
  EXPECT_EQ(schedule.Next(kFirstTry, seconds(7)), kFirstTry + seconds(7));
  EXPECT_EQ(schedule.Next(kFirstTry, seconds(61)), std::nullopt);
}

TEST(RetryAfter, SecondsAndTheThreeFormsOfADate) {
  EXPECT_EQ(ParseRetryAfter("120", kWall), seconds(120));
  EXPECT_EQ(ParseRetryAfter(" 0 ", kWall), seconds(0));
  for (const char* date : {"Sun, 06 Nov 1994 08:49:42 GMT", "Sunday, 06-Nov-94 08:49:42 GMT",
                           "Sun Nov  6 08:49:42 1994"}) {
    EXPECT_EQ(ParseRetryAfter(date, kWall), seconds(5)) << date;
  }
  EXPECT_EQ(ParseRetryAfter("Sun, 06 Nov 1994 08:00:00 GMT", kWall), seconds(0));
}

TEST(RetryAfter, WhatCannotBeReadIsNoAnswerAndWhatIsHugeIsBounded) {
  for (const char* bad : {"", "-1", "soon", "1.5", "12 s", "Sun, 06 Nov", "\xff"})
    EXPECT_EQ(ParseRetryAfter(bad, kWall), std::nullopt) << bad;
  EXPECT_EQ(ParseRetryAfter(std::string(70, '9'), kWall), std::nullopt);
  EXPECT_EQ(ParseRetryAfter("99999999999999999999999", kWall), std::chrono::hours(24));
  EXPECT_EQ(ParseRetryAfter("Fri, 31 Dec 9999 23:59:59 GMT", kWall), std::chrono::hours(24));
}

}  // namespace
}  // namespace etl

#pragma once

#include <string>

#include "base/clock.h"
#include "net/base64.h"
#include "net/http_client.h"
#include "net/scripted_http_client.h"

namespace etl {

/// Virtual time for tests; moved by hand.
class TestClock : public Clock {
 public:
  Instant Now() const override { return now; }
  UnixMicros WallNow() const override {
    return wall_start + std::chrono::duration_cast<std::chrono::microseconds>(now - start).count();
  }

  const Instant start{std::chrono::seconds(5000)};
  Instant now = start;
  UnixMicros wall_start = 1'800'000'000'000'000;
};

/// A token as the exchange answers it: JWT-shaped, with the claim to be told apart by.
inline std::string TestToken(const std::string& name, int64_t issued_at, int64_t life_seconds) {
  return "e30." +
         Base64Url(R"({"jti":")" + name + R"(","iat":)" + std::to_string(issued_at) + R"(,"exp":)" +
                   std::to_string(issued_at + life_seconds) + "}") +
         ".sig";
}

/// Steps `step(now)` and moves the clock to what `next(now)` says, until `done()` or `most` has
/// gone by.
template <typename Step, typename Next, typename Done>
bool RunUntil(TestClock& clock, Step step, Next next, Done done,
              Duration most = std::chrono::minutes(10)) {
  const Instant end = clock.now + most;
  while (!done()) {
    if (step(clock.now)) continue;
    const Instant by = next(clock.now);
    if (by > end) return false;
    clock.now = std::max(by, clock.now + std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace etl

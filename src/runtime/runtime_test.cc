#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "runtime/backoff.h"
#include "runtime/byte_budget.h"
#include "runtime/channel.h"
#include "runtime/stage_thread.h"

namespace etl {
namespace {

TEST(Channel, KeepsOrderAndBound) {
  Channel<int> channel(2);
  int one = 1, two = 2, three = 3;
  EXPECT_TRUE(channel.TryPush(one));
  EXPECT_TRUE(channel.TryPush(two));
  EXPECT_TRUE(channel.Full());
  EXPECT_FALSE(channel.TryPush(three));
  EXPECT_EQ(channel.TryPop(), 1);
  EXPECT_TRUE(channel.TryPush(three));
  EXPECT_EQ(channel.TryPop(), 2);
  EXPECT_EQ(channel.TryPop(), 3);
  EXPECT_EQ(channel.TryPop(), std::nullopt);
}

TEST(Channel, HandsEverythingFromThreadToThread) {
  Channel<std::unique_ptr<int>> channel(8);
  constexpr int kCount = 20000;
  std::thread producer([&] {
    for (int i = 0; i < kCount; ++i) {
      auto value = std::make_unique<int>(i);
      while (!channel.TryPush(value)) {
        pollfd fd{.fd = channel.producer_fd(), .events = POLLIN, .revents = 0};
        poll(&fd, 1, 1000);
        channel.ClearProducer();
      }
    }
  });
  for (int i = 0; i < kCount;) {
    if (auto value = channel.TryPop()) {
      ASSERT_EQ(**value, i++);
    } else {
      pollfd fd{.fd = channel.consumer_fd(), .events = POLLIN, .revents = 0};
      poll(&fd, 1, 1000);
      channel.ClearConsumer();
    }
  }
  producer.join();
}

TEST(ByteBudget, LeaseGivesBack) {
  ByteBudget budget(100);
  {
    ByteLease lease(&budget);
    lease.Resize(80);
    EXPECT_TRUE(budget.WouldExceed(21));
    ByteLease moved(std::move(lease));
    EXPECT_EQ(budget.used(), 80);
  }
  EXPECT_EQ(budget.used(), 0);
}

TEST(Backoff, GrowsToItsBound) {
  Backoff backoff(std::chrono::seconds(1), 1);
  for (int i = 0; i < 50; ++i) EXPECT_LE(backoff.Next(), std::chrono::seconds(1));
  EXPECT_GE(backoff.Next(), std::chrono::milliseconds(500));
  backoff.Reset();
  EXPECT_LE(backoff.Next(), std::chrono::milliseconds(100));
}

class CountingStage : public Stage {
 public:
  Result<Wake> Step(Instant now) override {
    if (++steps == 5) return MakeError(ErrorKind::kTransient, "ETL-X002", "enough");
    return Wake{.worked = false, .by = now + std::chrono::milliseconds(1)};
  }
  void AddPollFds(std::vector<pollfd>&) override {}
  int steps = 0;
};

TEST(StageThread, EndsWithTheStagesError) {
  CountingStage stage;
  Status outcome;
  StageThread thread("counting", &stage, SystemClock(),
                     [&](const Status& status) { outcome = status; });
  thread.Start();
  thread.Join();
  EXPECT_EQ(stage.steps, 5);
  EXPECT_EQ(KindOf(outcome), ErrorKind::kTransient);
}

}  // namespace
}  // namespace etl

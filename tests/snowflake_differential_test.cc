// Random schemas and adversarial transactions against a real server, copied into the emulator of
// Snowflake, merged by the engine or by tasks, while the program is killed at random moments and in
// the middle of its requests; in the end the target tables equal the source, value by value.
//
//   make differential TO=snowflake SEEDS=50 [FIRST=1]     the long form
//   ETL_DIFFERENTIAL_SEED=17                              one seed again
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

#include "differential_workload.h"
#include "support/failpoints.h"
#include "support/snowflake_fixture.h"

namespace etl {
namespace {

// What pipelines into Snowflake do not carry out yet: the workload spares it.
constexpr bool kColumnsChange = false;  // ALTER TABLE
constexpr bool kValuesSettle = false;   // values that were never sent, met by a copy

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

class SnowflakeDifferential : public SnowflakeE2eTest,
                              public testing::WithParamInterface<uint64_t> {
 protected:
  // Runs the program for a while, again and again, and ends it the hard way.
  void RunAndKill(std::mt19937_64& random, std::chrono::milliseconds time) {
    const std::vector<std::string> points(kSnowflakeFailpoints.begin(), kSnowflakeFailpoints.end());
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      Environment environment;
      if (random() % 3 == 0) {
        environment["ETL_FAILPOINTS"] =
            points[random() % points.size()] + "=exit:" + std::to_string(1 + random() % 6);
      }
      Running run = space_.Start({"run"}, environment);
      const auto end = std::chrono::steady_clock::now() +
                       std::chrono::milliseconds(random() % 4 == 0 ? 50 + random() % 300
                                                                   : 500 + random() % 3000);
      while (run.alive() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (random() % 5 == 0) {
        run.Signal(SIGTERM);
        const Ended ended = run.Wait(std::chrono::seconds(15));
        EXPECT_FALSE(ended.timed_out) << ended.Describe();
      } else {
        const Ended ended = run.Kill();
        // It ends by our hand only.
        EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
      }
      ++lives_;
    }
  }

  void OneSeed(uint64_t seed) {
    std::mt19937_64 random(seed * 7919);
    config_.pipeline = {
        "slot: " + slot_,
        "snapshot: {parallelism: 2, chunk_rows: " + std::to_string(100 + random() % 400) + "}",
        "batch: {max_rows: " + std::to_string(50 + random() % 500) +
            ", max_delay: " + std::to_string(20 + random() % 100) + "ms}",
        "retry: {max_delay: 500ms, give_up: 60s}", "on_unrepresentable: 'null'"};
    config_.tables = "[\"*.*\", \"!* leaf *\"]";
    const bool by_task = seed % 4 >= 2;
    if (by_task) config_.destinations = Destination(emulator_->tls_url(), "1s, by: task");
    space_.Write(config_);
    // Two, so that runs of one task overlap.
    std::optional<TaskRunner> tasks[2];
    if (by_task) {
      for (auto& runner : tasks) runner.emplace(*emulator_);
    }
    Workload workload(server_->ConnInfo(database_), seed);
    ASSERT_EQ(workload.Prepare(), "");
    workload.set_ddl(kColumnsChange && seed % 2 == 0);
    if (!kValuesSettle) {
      // Killed in the copy, too, which then meets no changes.
      RunAndKill(random, std::chrono::milliseconds(1500));
      const Ended copied = space_.Run({"sync"}, {}, std::chrono::seconds(120));
      ASSERT_EQ(copied.exit_code, 0) << copied.Describe();
    }
    workload.Start(2);
    const bool long_form = Number("ETL_DIFFERENTIAL_SEEDS", 0) > 0;
    RunAndKill(random,
               std::chrono::milliseconds(Number("ETL_DIFFERENTIAL_MS", long_form ? 8000 : 5000)));
    workload.Stop();
    const Ended sync = space_.Run({"sync"}, {}, std::chrono::seconds(240));
    for (auto& runner : tasks) runner.reset();
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
    EXPECT_EQ(Different(), "");
    const Ended verify = space_.Run({"verify", "p", "--json"}, {}, std::chrono::seconds(120));
    EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
    EXPECT_GT(workload.transactions(), 20);
    EXPECT_GT(lives_, 0);
    if (HasFailure()) {
      ADD_FAILURE() << "again: ETL_DIFFERENTIAL_SEED=" << seed << " (ETL_KEEP=1 keeps the files)\n"
                    << "schema and its changes:\n"
                    << workload.History();
    }
    std::cout << "seed " << seed << ": " << workload.transactions() << " transactions, "
              << workload.ddl_done() << " schema changes, " << lives_ << " lives" << std::endl;
  }

  int lives_ = 0;
};

TEST_P(SnowflakeDifferential, TargetEqualsSourceAfterKills) { OneSeed(GetParam()); }

std::vector<uint64_t> Seeds() {
  if (const uint64_t one = Number("ETL_DIFFERENTIAL_SEED", 0)) return {one};
  const uint64_t first = Number("ETL_DIFFERENTIAL_FIRST", 1);
  const uint64_t count = Number("ETL_DIFFERENTIAL_SEEDS", ShortTests() ? 1 : 2);
  std::vector<uint64_t> seeds;
  for (uint64_t i = 0; i < count; ++i) seeds.push_back(first + i);
  return seeds;
}

INSTANTIATE_TEST_SUITE_P(Seeds, SnowflakeDifferential, testing::ValuesIn(Seeds()),
                         [](const auto& each) { return std::to_string(each.param); });

}  // namespace
}  // namespace etl

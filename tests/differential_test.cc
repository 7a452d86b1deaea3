// Random schemas and adversarial transactions against a real server, while the program runs and is
// killed at random moments; in the end the copy equals the source, value by value.
//
//   make differential SEEDS=200 [FIRST=1]     the long form
//   ETL_DIFFERENTIAL_SEED=17                  one seed again
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

#include "differential_workload.h"
#include "support/e2e_fixture.h"

namespace etl {
namespace {

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoull(text, nullptr, 10);
}

class Differential : public E2eTest {
 protected:
  // Runs the program for a while, again and again, and ends it the hard way.
  void RunAndKill(std::mt19937_64& random, std::chrono::milliseconds time) {
    static const char* const kPoints[] = {
        "duckdb.segment.before_commit", "duckdb.segment.after_commit", "duckdb.chunk.before_commit",
        "duckdb.chunk.after_commit",    "duckdb.fold.before_commit",   "duckdb.fold.middle",
        "duckdb.fold.after_commit"};
    const auto until = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < until) {
      Environment environment;
      if (random() % 3 == 0) {
        environment["ETL_FAILPOINTS"] =
            std::string(kPoints[random() % 7]) + "=exit:" + std::to_string(1 + random() % 6);
      }
      Running run = space_.Start({"run"}, environment);
      const auto life = std::chrono::milliseconds(random() % 4 == 0 ? 50 + random() % 300
                                                                    : 300 + random() % 3000);
      const auto end = std::chrono::steady_clock::now() + life;
      while (run.alive() && std::chrono::steady_clock::now() < end)
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (random() % 5 == 0) {
        run.Signal(SIGTERM);
        const Ended ended = run.Wait(std::chrono::seconds(15));
        EXPECT_FALSE(ended.timed_out) << ended.Describe();
        if (ended.signal == 0) {
          EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
        }
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
        "batch: {max_rows: " + std::to_string(20 + random() % 500) +
            ", max_delay: " + std::to_string(5 + random() % 100) + "ms}",
        "retry: {max_delay: 500ms, give_up: 20s}"};
    config_.tables = "[\"*.*\", \"!* leaf *\"]";
    space_.Write(config_);
    Workload workload(server_->ConnInfo(database_), seed);
    ASSERT_EQ(workload.Prepare(), "");
    workload.set_ddl(seed % 2 == 0);
    workload.Start(3);
    // The few seeds of the whole suite have to fit into its time.
    const bool long_form = Number("ETL_DIFFERENTIAL_SEEDS", 0) > 0;
    RunAndKill(random,
               std::chrono::milliseconds(Number("ETL_DIFFERENTIAL_MS", long_form ? 6000 : 4500)));
    workload.Stop();
    const Ended sync = space_.Run({"sync"}, {}, std::chrono::seconds(90));
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
    EXPECT_EQ(Different(), "");
    const Ended verify = space_.Run({"verify", "p", "--json"}, {}, std::chrono::seconds(90));
    EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
    const auto report = nlohmann::json::parse(verify.out, nullptr, false);
    EXPECT_TRUE(!report.is_discarded() && report.value("equal", false)) << verify.Describe();
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

class DifferentialSeeds : public Differential, public testing::WithParamInterface<uint64_t> {};

TEST_P(DifferentialSeeds, CopyEqualsSourceAfterKills) { OneSeed(GetParam()); }

std::vector<uint64_t> Seeds() {
  if (const uint64_t one = Number("ETL_DIFFERENTIAL_SEED", 0)) return {one};
  const uint64_t first = Number("ETL_DIFFERENTIAL_FIRST", 1);
  const uint64_t count = Number("ETL_DIFFERENTIAL_SEEDS", ShortTests() ? 1 : 6);
  std::vector<uint64_t> seeds;
  for (uint64_t i = 0; i < count; ++i) seeds.push_back(first + i);
  return seeds;
}

INSTANTIATE_TEST_SUITE_P(Seeds, DifferentialSeeds, testing::ValuesIn(Seeds()),
                         [](const auto& each) { return std::to_string(each.param); });

}  // namespace
}  // namespace etl

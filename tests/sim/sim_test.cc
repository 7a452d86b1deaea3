#include <cstdlib>

#include <gtest/gtest.h>

#include "base/log.h"
#include "sim/simulation.h"

namespace etl {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// As little as still means something: for a sanitizer, which asks for every path, not every seed.
bool Short() { return std::getenv("ETL_TEST_SHORT") != nullptr; }
uint64_t Seeds() { return FromEnvironment("ETL_SIM_SEEDS", Short() ? 100 : 500); }

class Simulator : public testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override { ConfigureLog(LogLevel::kError, LogFormat::kText); }
};

constexpr uint64_t kParts = 10;

TEST_P(Simulator, EverySeedEndsWithTheSourcesTables) {
  if (std::getenv("ETL_SIM_SEED") != nullptr) GTEST_SKIP();
  const uint64_t seeds = Seeds() / kParts;
  for (uint64_t i = 0; i < seeds; ++i) {
    const uint64_t seed = GetParam() * seeds + i + 1;
    const SimulationResult result = RunSeed(seed, false);
    EXPECT_EQ(result.failure, "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, Simulator, testing::Range(uint64_t{0}, kParts));

TEST(OneSeed, OfTheEnvironment) {
  if (std::getenv("ETL_SIM_SEED") == nullptr) GTEST_SKIP() << "ETL_SIM_SEED is not set";
  ConfigureLog(LogLevel::kDebug, LogFormat::kText);
  const uint64_t seed = FromEnvironment("ETL_SIM_SEED", 1);
  EXPECT_EQ(RunSeed(seed, true).failure, "") << "seed " << seed;
}

// A transaction that is stored already came again with its Relation message, which is not repeated
// for the rows that do count; the stored schema was older, for the catalog had been behind (7.1).
TEST(OnceFailed, RelationMessageInAStoredTransaction) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  EXPECT_EQ(RunSeed(1016, false, Mutant::kNone, /*streaming=*/false).failure, "");
}

// A column added, dropped and added again with one type between two looks at the catalog: values of
// the first one landed in the second (7.1).
TEST(OnceFailed, ColumnThatCameAndWentBetweenTwoLooks) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  EXPECT_EQ(RunSeed(4497, false).failure, "");
  EXPECT_EQ(RunSeed(18653, false).failure, "");
}

// Rows that were read again by key were used by a fold after a restart, before the stored position
// had reached their H (S3).
TEST(OnceFailed, SettledRowsBeforeTheirHigh) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  EXPECT_EQ(RunSeed(85753, false).failure, "");
  EXPECT_EQ(RunSeed(89112, false).failure, "");
}

// A table that was to be copied again left the publication, and was not copied when it came back.
TEST(OnceFailed, TableThatLeftBeforeItWasCopiedAgain) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  EXPECT_EQ(RunSeed(52252, false).failure, "");
  EXPECT_EQ(RunSeed(68057, false).failure, "");
}

// The target was called reached while a schema change at a stored position was not handed over.
TEST(OnceFailed, TargetReachedBeforeTheLastSchemaChange) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  EXPECT_EQ(RunSeed(35472, false).failure, "");
  EXPECT_EQ(RunSeed(40645, false).failure, "");
}

// The oracle must be able to fail: each mutant breaks one rule of the destination on purpose.
// Tried and noticed with these: unsent values of a broken key taken from the copied rows (F3),
// pending changes dropped (C1), copied rows kept over a truncate (C7), a position reported before
// it is stored (2.2), rows of rolled-back subtransactions kept (1.1). Not noticed within 400 seeds:
// settled values taken though their key was broken meanwhile (S3, Mutant::kIgnoreSettledBreaks);
// two such takings over of one key while one copy is settled are too rare here.
TEST(Mutants, EachBrokenRuleIsNoticed) {
  if (Short()) GTEST_SKIP();
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  const std::pair<Mutant, const char*> mutants[] = {
      {Mutant::kTrustShadowOfBrokenKeys, "F3"},   {Mutant::kForgetPending, "C1"},
      {Mutant::kDurableTooEarly, "2.2"},          {Mutant::kKeepShadowAfterTruncate, "C7"},
      {Mutant::kHideSubtransactionAborts, "1.1"},
  };
  for (const auto& [mutant, rule] : mutants) {
    bool noticed = false;
    uint64_t seed = 0;
    while (!noticed && seed < 400) noticed = !RunSeed(++seed, false, mutant).failure.empty();
    EXPECT_TRUE(noticed) << "rule " << rule;
    RecordProperty(std::string("noticed_by_seed_") + rule, std::to_string(seed));
  }
}

// C2, last sentence: a server that may forget, for the rest of a session, that a table is
// published.
TEST(OldServer, ChangesOfNewlyPublishedTablesAreNotLost) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  const auto run = [](uint64_t seed, Mutant mutant) {
    return RunSeed(seed, false, mutant, /*streaming=*/true, /*loses_published_changes=*/true)
        .failure;
  };
  const uint64_t seeds = Seeds() / 2;
  for (uint64_t seed = 1; seed <= seeds; ++seed)
    EXPECT_EQ(run(seed, Mutant::kNone), "") << "seed " << seed;
  if (Short()) return;
  // That the model does lose something: few seeds publish a table under an open writer.
  bool noticed = false;
  uint64_t seed = 0;
  while (!noticed && seed < 5000) noticed = !run(++seed, Mutant::kKeepForgetfulStream).empty();
  EXPECT_TRUE(noticed);
  EXPECT_EQ(run(seed, Mutant::kNone), "") << "seed " << seed;
  RecordProperty("noticed_by_seed", std::to_string(seed));
}

TEST(Determinism, TheSameSeedGivesTheSameRun) {
  ConfigureLog(LogLevel::kError, LogFormat::kText);
  for (uint64_t seed : {3u, 77u, 1234u})
    EXPECT_EQ(RunSeed(seed, false).trace_hash, RunSeed(seed, false).trace_hash) << seed;
}

}  // namespace
}  // namespace etl

#include "ops/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace etl {
namespace {

using ::testing::HasSubstr;
using Severity = CheckFinding::Severity;

Config OnePipeline(const std::string& path) {
  Config config;
  config.limits.spill_dir = testing::TempDir();
  config.sources["s"] =
      SourceConfig{.name = "s", .url = "postgres:///x?host=/nonexistent", .password = {}};
  config.destinations["d"].name = "d";
  config.destinations["d"].path = path;
  config.pipelines["p"].name = "p";
  config.pipelines["p"].source = "s";
  config.pipelines["p"].destination = "d";
  return config;
}

TEST(Check, UnreachableSourceIsAFindingNotAFailure) {
  const CheckReport report =
      RunChecks(OnePipeline(testing::TempDir() + "check_test.duckdb"), {"p"}, SystemClock());
  ASSERT_EQ(report.Count(Severity::kFail), 1);
  EXPECT_FALSE(report.ok());
  EXPECT_THAT(
      CheckToJson(report),
      HasSubstr("\"part\":\"source s\",\"pipeline\":\"p\",\"id\":\"S01\",\"severity\":\"fail\""));
}

TEST(Check, UnwritableDestinationIsFound) {
  const CheckReport report = RunChecks(OnePipeline("/nonexistent/x.duckdb"), {"p"}, SystemClock());
  EXPECT_EQ(report.Count(Severity::kFail), 2);
  EXPECT_THAT(CheckToJson(report), HasSubstr("\"id\":\"D20\",\"severity\":\"fail\""));
}

TEST(Check, MissingSecretIsAFinding) {
  Config config = OnePipeline(testing::TempDir() + "check_test.duckdb");
  config.sources["s"].password = SecretRef::Env("ETL_CHECK_TEST_NOT_SET");
  EXPECT_THAT(CheckToJson(RunChecks(config, {"p"}, SystemClock())), HasSubstr("ETL-C020"));
}

TEST(Check, FixSqlHoldsEachStatementOnce) {
  CheckReport report;
  const CheckFinding finding{
      Severity::kFail, "S13", "no key", "", "ALTER", "ALTER TABLE a REPLICA IDENTITY FULL;"};
  const CheckFinding passed{Severity::kOk, "S04", "fine", "", "", "ALTER SYSTEM x;"};
  report.parts.push_back({"source s", "p", "", {finding, passed}});
  report.parts.push_back({"source s", "q", "", {finding}});
  EXPECT_EQ(FixSql(report), "-- source s\n-- S13 no key\nALTER TABLE a REPLICA IDENTITY FULL;\n");
  report.parts[0].grants = {"GRANT USAGE ON SCHEMA \"a\nb\" TO r", "GRANT x TO r"};
  EXPECT_THAT(CheckToJson(report, true),
              HasSubstr("],\"fix_sql\":[\"GRANT USAGE ON SCHEMA \\\"a\\nb\\\" TO r;\",\"GRANT x "
                        "TO r;\",\"ALTER TABLE a REPLICA IDENTITY FULL;\"]}"));
}

}  // namespace
}  // namespace etl

#include "control/verify_report.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

VerifyReport Example() {
  VerifyReport report;
  report.pipeline = "shop";
  report.position = {0x16B3748};
  report.tables = {
      {.name = "public.a", .equal = true, .source_rows = 3, .destination_rows = 3},
      {.name = "public.\"b\"",
       .equal = false,
       .source_rows = 3,
       .destination_rows = 2,
       .keys = {"id=1 (missing)"},
       .note = "columns that differ: x",
       .nulled = 2},
      {.name = "public.c", .note = "append"},
  };
  return report;
}

TEST(VerifyReport, HasTheContractsShape) {
  EXPECT_EQ(
      VerifyReportToJson(Example()),
      R"x({"pipeline":"shop","position":"0/16B3748","equal":false,"tables":[)x"
      R"x({"name":"public.a","equal":true,"source_rows":3,"destination_rows":3,"keys":[],"note":null,"nulled":0},)x"
      R"x({"name":"public.\"b\"","equal":false,"source_rows":3,"destination_rows":2,)x"
      R"x("keys":["id=1 (missing)"],"note":"columns that differ: x","nulled":2},)x"
      R"x({"name":"public.c","equal":null,"source_rows":null,"destination_rows":null,"keys":[],"note":"append","nulled":0}]})x");
}

TEST(VerifyReport, TablesThatWereNotComparedAreNoDifference) {
  VerifyReport report = Example();
  EXPECT_FALSE(report.equal());
  report.tables.erase(report.tables.begin() + 1);
  EXPECT_TRUE(report.equal());
}

TEST(VerifyReport, VerdictsSurviveTheWayThroughTheCatalog) {
  const std::string json = VerdictToJson(Example());
  const Result<VerifyReport> back = VerdictFromJson(json);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(VerifyReportToJson(*back), json);
  const Status error = MakeError(
      ErrorKind::kLost,
      {.code = "ETL-S201", .what = "what \n", .why = "why", .safe = "safe", .remedy = "remedy"});
  const Status told = VerdictFromJson(VerdictToJson(error)).status();
  EXPECT_EQ(KindOf(told), ErrorKind::kLost);
  EXPECT_EQ(ErrorLine(told), ErrorLine(error));
}

TEST(VerifyReport, NoVerdictIsBusy) {
  EXPECT_EQ(KindOf(VerdictFromJson("").status()), ErrorKind::kBusy);
  EXPECT_EQ(KindOf(VerdictFromJson("[1]").status()), ErrorKind::kBusy);
}

}  // namespace
}  // namespace etl

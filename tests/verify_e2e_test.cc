// `verify`: what was changed in the file by hand is found.
#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using nlohmann::json;

class VerifyMirror : public E2eTest {
 protected:
  json Verify(int exit_code) {
    const Ended verify = space_.Run({"verify", "p", "--json"});
    EXPECT_EQ(verify.exit_code, exit_code) << verify.Describe();
    json report = json::parse(verify.out, nullptr, false);
    EXPECT_FALSE(report.is_discarded()) << verify.Describe();
    return report;
  }
  static json Table(const json& report, const std::string& name) {
    for (const json& table : report.value("tables", json::array()))
      if (table.at("name") == name) return table;
    return json{{"equal", "no such table"}, {"keys", json::array()}, {"note", ""}};
  }
  static std::vector<std::string> Keys(const json& table) { return table.at("keys"); }
  void Damage(const std::string& sql) {
    const etl::Status done = ExecuteDuckDb(space_.duckdb(), sql);
    ASSERT_TRUE(done.ok()) << ErrorLine(done);
  }
};

TEST_F(VerifyMirror, DifferencesMadeByHandAreFoundAndTheirKeysNamed) {
  ASSERT_TRUE(
      Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, w text); INSERT INTO public.a SELECT "
          "i, 'v' || i, 'w' FROM generate_series(1, 1200) i; CREATE TABLE public.b (v text); "
          "ALTER TABLE public.b REPLICA IDENTITY FULL; INSERT INTO public.b VALUES ('one')"));
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Verify(0).at("equal"), true);
  Damage(
      "UPDATE copy.public.a SET v = 'by hand' WHERE id = 700; DELETE FROM copy.public.a WHERE id "
      "= 800; INSERT INTO copy.public.a VALUES (5000, 'by hand', 'w'); UPDATE copy.public.b SET v "
      "= 'two'");
  const json report = Verify(1);
  EXPECT_EQ(report.at("equal"), false);
  EXPECT_THAT(Keys(Table(report, "public.a")),
              testing::UnorderedElementsAre("700 (different)", "800 (missing)", "5000 (extra)"));
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("v")) << report;
  EXPECT_EQ(Table(report, "public.b").at("equal"), false) << report;
  EXPECT_THAT(Table(report, "public.b").at("note").dump(), HasSubstr("no key")) << report;
}

}  // namespace
}  // namespace etl

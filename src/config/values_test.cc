#include "config/values.h"

#include <gtest/gtest.h>

#include "config/conninfo.h"
#include "config/problem.h"
#include "config/table_filter.h"

namespace etl {
namespace {

TEST(Values, DurationsNeedAWholeNumberAndAUnit) {
  EXPECT_EQ(ParseDuration("250ms"), std::chrono::milliseconds(250));
  EXPECT_EQ(ParseDuration("5s"), std::chrono::seconds(5));
  EXPECT_EQ(ParseDuration("1m"), std::chrono::minutes(1));
  EXPECT_EQ(ParseDuration("2h"), std::chrono::hours(2));
  EXPECT_EQ(ParseDuration("1d"), std::chrono::hours(24));
  for (const char* bad : {"", "5", "s", "5 s", "-5s", "+5s", "1.5s", "5S", "5sec",
                          "99999999999999999999s", "9999999999d"}) {
    EXPECT_EQ(ParseDuration(bad), std::nullopt) << bad;
  }
}

TEST(Values, SizesAreBinaryUnits) {
  EXPECT_EQ(ParseSize("0B"), 0);
  EXPECT_EQ(ParseSize("64KiB"), 65536);
  EXPECT_EQ(ParseSize("16MiB"), 16 << 20);
  for (const char* bad : {"16", "16MB", "16mib", "MiB", "-1MiB", "9999999999TiB"})
    EXPECT_EQ(ParseSize(bad), std::nullopt) << bad;
}

TEST(Values, FormattingGivesTheFormThatWasParsed) {
  for (const char* text : {"250ms", "5s", "90s", "2h", "1d", "0ms"})
    EXPECT_EQ(FormatDuration(*ParseDuration(text)), text);
  for (const char* text : {"16MiB", "1GiB", "3B", "0B"})
    EXPECT_EQ(FormatSize(*ParseSize(text)), text);
}

TEST(Values, TablePatternsLetTheLaterOneWin) {
  const TableFilter filter({"public.*", "!public.audit_*", "public.audit_log"});
  EXPECT_TRUE(filter.Selects("public", "orders"));
  EXPECT_FALSE(filter.Selects("public", "audit_old"));
  EXPECT_TRUE(filter.Selects("public", "audit_log"));
  EXPECT_FALSE(filter.Selects("other", "orders"));
  EXPECT_TRUE(TableFilter().Selects("any", "thing"));
}

TEST(Values, PatternStarsMatchAnyRun) {
  EXPECT_TRUE(MatchesPattern("a*b*c", "axxbyyc"));
  EXPECT_TRUE(MatchesPattern("*", ""));
  EXPECT_TRUE(MatchesPattern("a**", "a"));
  EXPECT_FALSE(MatchesPattern("a*b", "axc"));
  EXPECT_FALSE(MatchesPattern("a", "ab"));
  EXPECT_TRUE(MatchesPattern("*ab", "aab"));
}

TEST(Values, PasswordIsTakenOutOfEveryFormOfConnectionString) {
  struct Case {
    std::string in, out, password;
  };
  for (const Case& c : std::vector<Case>{
           {"postgres://u:p%40ss@h:1/d?a=b", "postgres://u@h:1/d?a=b", "p@ss"},
           {"postgresql://h/d?password=p&a=b", "postgresql://h/d?a=b", "p"},
           {"postgres://u@[::1]:5432/d", "postgres://u@[::1]:5432/d", ""},
           {"postgres://h:5432/d", "postgres://h:5432/d", ""},
           {"host=h password='a\\'b c' dbname=d", "host=h dbname=d", "a'b c"},
           {"password=x", "", "x"},
           {"host = h", "host = h", ""},
       }) {
    const SplitConninfo split = SplitPassword(c.in);
    EXPECT_EQ(split.error, "") << c.in;
    EXPECT_EQ(split.conninfo, c.out);
    EXPECT_EQ(split.password.value_or(""), c.password);
  }
}

TEST(Values, ExcerptsAreMaskedAndCut) {
  EXPECT_EQ(MaskedExcerpt("  password: hunter2"), "  password: ***");
  EXPECT_EQ(MaskedExcerpt("  password: {env: X}"), "  password: {env: X}");
  EXPECT_EQ(MaskedExcerpt("url: postgres://u:p@x@h/d"), "url: postgres://u:***@h/d");
  EXPECT_EQ(MaskedExcerpt("url: postgres://h:5432/d"), "url: postgres://h:5432/d");
  EXPECT_EQ(MaskedExcerpt("a: \x1b[31m"), "a: \\x1b[31m");
  EXPECT_LT(MaskedExcerpt(std::string(5000, 'x')).size(), 200u);
}

}  // namespace
}  // namespace etl

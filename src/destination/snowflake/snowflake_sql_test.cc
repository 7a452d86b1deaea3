#include <gtest/gtest.h>

#include "destination/snowflake/identifiers.h"

namespace etl {
namespace {

TEST(SnowflakeIdentifiers, QuotesAndBackslashesAreDoubled) {
  EXPECT_EQ(QuoteIdentifier("a\"b\\c"), "\"a\"\"b\\c\"");
  EXPECT_EQ(QuoteLiteral("a'b\\c\n"), "'a''b\\\\c\n'");
}

}  // namespace
}  // namespace etl

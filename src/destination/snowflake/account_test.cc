#include "destination/snowflake/account.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

SnowflakeAccount Account(std::string_view account, std::string_view url = {}) {
  return MakeSnowflakeAccount(account, url).ValueOrDie();
}

TEST(SnowflakeAccount, TheHostIsMadeFromTheAccount) {
  EXPECT_EQ(Account("MYORG-MY_ACCT").base, "https://myorg-my-acct.snowflakecomputing.com");
  EXPECT_EQ(Account("MYORG-MY_ACCT").name, "MYORG-MY_ACCT");
  EXPECT_EQ(Account("xy12345.us-east-1").base, "https://xy12345.us-east-1.snowflakecomputing.com");
  EXPECT_EQ(Account("xy12345.us-east-1").name, "XY12345");
  EXPECT_EQ(Account("a-b", "http://127.0.0.1:8080/x/").base, "http://127.0.0.1:8080/x");
  EXPECT_FALSE(MakeSnowflakeAccount("a/b", "").ok());
  EXPECT_FALSE(MakeSnowflakeAccount("", "").ok());
  EXPECT_FALSE(MakeSnowflakeAccount("a-b", "http://example.com").ok());
}

TEST(IngestHost, IsReadAsTextAndAsJson) {
  const SnowflakeAccount account = Account("a-b");
  for (const char* answer :
       {"Ingest_1.a.snowflakecomputing.com", " ingest-1.a.snowflakecomputing.com\n",
        R"({"hostname":"ingest_1.a.snowflakecomputing.com"})",
        "\"ingest-1.a.snowflakecomputing.com\""}) {
    const IngestHost host = ParseIngestHost(account, answer).ValueOrDie();
    EXPECT_EQ(host.base, "https://ingest-1.a.snowflakecomputing.com") << answer;
    EXPECT_EQ(host.scope, "ingest-1.a.snowflakecomputing.com");
  }
}

TEST(IngestHost, SchemeAndPortAreTheAccountsUnlessAPortIsAnswered) {
  const SnowflakeAccount account = Account("a-b", "http://127.0.0.1:8080");
  EXPECT_EQ(ParseIngestHost(account, "127.0.0.1").ValueOrDie().base, "http://127.0.0.1:8080");
  EXPECT_EQ(ParseIngestHost(account, "127.0.0.1:9090").ValueOrDie().base, "http://127.0.0.1:9090");
  EXPECT_EQ(ParseIngestHost(account, "127.0.0.1:9090").ValueOrDie().scope, "127.0.0.1");
}

TEST(IngestHost, TokensStayWithinTheDomain) {
  const SnowflakeAccount account = Account("a-b");
  for (const char* answer :
       {"evil.example.com", "snowflakecomputing.com.example.com", "127.0.0.1", "", "a b",
        "x.snowflakecomputing.com/path", "u@x.snowflakecomputing.com", "<html>", "{}", "[]",
        R"({"hostname":7})"}) {
    EXPECT_FALSE(ParseIngestHost(account, answer).ok()) << answer;
  }
  // A plain connection never leads away from this machine.
  EXPECT_FALSE(ParseIngestHost(Account("a-b", "http://127.0.0.1:1"), "example.com").ok());
}

}  // namespace
}  // namespace etl

#include "net/jwt.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "net/base64.h"
#include "net/key_testing.h"

namespace etl {
namespace {

TEST(Base64, AgreesWithTheStandardsExamples) {
  const std::pair<const char*, const char*> cases[] = {{"", ""},
                                                       {"f", "Zg=="},
                                                       {"fo", "Zm8="},
                                                       {"foo", "Zm9v"},
                                                       {"foob", "Zm9vYg=="},
                                                       {"fooba", "Zm9vYmE="},
                                                       {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : cases) {
    EXPECT_EQ(Base64(bytes), text);
    EXPECT_EQ(DecodeBase64Url(Base64Url(bytes)), bytes);
  }
  EXPECT_EQ(Base64("\xfb\xff"), "+/8=");
  EXPECT_EQ(Base64Url("\xfb\xff"), "-_8");
  EXPECT_EQ(DecodeBase64Url("a"), std::nullopt);
  EXPECT_EQ(DecodeBase64Url("+/8="), std::nullopt);
}

TEST(JwtAccount, FollowsTheRulesForEveryForm) {
  EXPECT_EQ(JwtAccount("myorg-myacct"), "MYORG-MYACCT");
  EXPECT_EQ(JwtAccount("myorg-my_acct"), "MYORG-MY_ACCT");
  EXPECT_EQ(JwtAccount("xy12345.us-east-1"), "XY12345");
  EXPECT_EQ(JwtAccount("xy12345.us-west-2.aws"), "XY12345");
  EXPECT_EQ(JwtAccount("xy12345-abc.global"), "XY12345");
}

TEST(Jwt, HoldsTheClaimsInSeconds) {
  const Secret token = SignJwt(*TestKey(), {.account = "A-B",
                                            .user = "ETL",
                                            .role = "R \"1\"",
                                            .issued_at = 1700000000,
                                            .expires_at = 1700003540})
                           .ValueOrDie();
  const std::string text(token.Reveal());
  const size_t first = text.find('.');
  const size_t second = text.rfind('.');
  EXPECT_EQ(*DecodeBase64Url(text.substr(0, first)), R"({"typ":"JWT","alg":"RS256"})");
  const auto claims =
      nlohmann::json::parse(*DecodeBase64Url(text.substr(first + 1, second - first - 1)));
  EXPECT_EQ(claims, (nlohmann::json{{"iss", "A-B.ETL." + TestKey()->fingerprint()},
                                    {"sub", "A-B.ETL"},
                                    {"scp", "session:role:R \"1\""},
                                    {"iat", 1700000000},
                                    {"exp", 1700003540}}));
  EXPECT_EQ(*DecodeBase64Url(text.substr(second + 1)),
            TestKey()->Sign(text.substr(0, second)).ValueOrDie());
  EXPECT_EQ(ReadJwtTimes(text)->expires_at, 1700003540);
}

TEST(Jwt, TimesAreReadFromAnyToken) {
  const auto token = [](const std::string& claims) { return "x." + Base64Url(claims) + ".y"; };
  EXPECT_EQ(ReadJwtTimes(token(R"({"exp":1700000000123})"))->expires_at, 1700000000);
  EXPECT_EQ(ReadJwtTimes(token(R"({"exp":1.7e9,"iat":1699999000})"))->issued_at, 1699999000);
  for (const std::string& bad :
       {std::string("opaque"), std::string("a.b"), std::string("a.!!.c"), token("[]"), token("{}"),
        token(R"({"exp":"soon"})"), token(R"({"exp":-1})"), token(R"({"exp":1e300})")}) {
    EXPECT_FALSE(ReadJwtTimes(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace etl

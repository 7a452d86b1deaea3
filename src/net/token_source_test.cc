#include "net/token_source.h"

#include <memory>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/jwt.h"
#include "net/key_testing.h"
#include "net/service_testing.h"

namespace etl {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Text(const Bearer& bearer) {
  return bearer == nullptr ? "" : std::string(bearer->Reveal());
}

class TokenSourceTest : public ::testing::Test {
 protected:
  TokenSourceTest() : http_([this](const HttpRequest& request) { return Exchange(request); }) {
    source_ = std::make_unique<TokenSource>(TokenOptions{.account_url = "https://a.example.com",
                                                         .account = "ORG-ACCT",
                                                         .user = "ETL",
                                                         .role = "LOADER"},
                                            TestOrigin(&key_, &key_changed_), http_, clock_, 7);
    EXPECT_TRUE(source_->Start(clock_.now).ok());
    source_->SetIngestHost("ingest.example.com");
  }

  ScriptedHttpClient::Reply Exchange(const HttpRequest& request) {
    requests_.push_back({request.url, std::string(request.body.bytes), Text(request.bearer)});
    if (!replies_.empty()) {
      ScriptedHttpClient::Reply reply = replies_.front();
      replies_.erase(replies_.begin());
      return reply;
    }
    const std::string token =
        TestToken(fmt::format("t{}", requests_.size()), clock_.WallNow() / 1'000'000, life_);
    return ScriptedHttpClient::Answer(200, json_ ? R"({"token":")" + token + "\"}" : token + "\n");
  }

  void Step() {
    source_->Step(clock_.now);
    std::vector<HttpResponse> finished;
    http_.Poll(clock_.now, finished);
    for (HttpResponse& response : finished) EXPECT_TRUE(source_->Take(response, clock_.now));
  }
  // Asks and steps until there is one.
  std::string Ingest() {
    std::string token;
    const bool found = RunUntil(
        clock_,
        [&](Instant now) {
          for (int tries = 0; tries < 2 && token.empty(); ++tries) {
            if (tries > 0) Step();
            const Result<Bearer> bearer = source_->Ingest(now);
            error_ = bearer.status();
            if (bearer.ok() && *bearer != nullptr) token = Text(*bearer);
          }
          return !token.empty();
        },
        [&](Instant) { return std::min(source_->next_deadline(), http_.next_deadline()); },
        [&] { return !token.empty() || !error_.ok(); });
    EXPECT_TRUE(found);
    return token;
  }

  struct Seen {
    std::string url;
    std::string body;
    std::string bearer;
  };
  TestClock clock_;
  int key_ = 0;
  bool key_changed_ = false;
  int64_t life_ = 600;
  bool json_ = false;
  std::vector<ScriptedHttpClient::Reply> replies_;
  std::vector<Seen> requests_;
  ScriptedHttpClient http_;
  std::unique_ptr<TokenSource> source_;
  Status error_;
};

TEST_F(TokenSourceTest, ExchangesTheJwtForAScopedToken) {
  const std::string token = Ingest();
  ASSERT_EQ(requests_.size(), 1u);
  EXPECT_EQ(requests_[0].url, "https://a.example.com/oauth/token");
  EXPECT_EQ(requests_[0].body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&scope="
            "ingest.example.com%20session%3Arole%3ALOADER");
  EXPECT_EQ(requests_[0].bearer, Text(source_->Account(clock_.now).ValueOrDie()));
  EXPECT_EQ(ReadJwtTimes(requests_[0].bearer)->expires_at, clock_.wall_start / 1'000'000 + 59 * 60);
  EXPECT_EQ(ReadJwtTimes(token)->expires_at, clock_.wall_start / 1'000'000 + 600);
}

TEST_F(TokenSourceTest, AJsonAnswerIsUnderstoodToo) {
  json_ = true;
  EXPECT_TRUE(ReadJwtTimes(Ingest()).has_value());
  EXPECT_EQ(TokenOfAnswer(R"({"access_token":"x.y.z"})").Reveal(), "x.y.z");
  EXPECT_EQ(TokenOfAnswer("\"x.y.z\"\n").Reveal(), "x.y.z");
  EXPECT_TRUE(TokenOfAnswer("<html>oops</html>").empty());
  EXPECT_TRUE(TokenOfAnswer("not a token").empty());
  EXPECT_TRUE(TokenOfAnswer("{").empty());
  EXPECT_TRUE(TokenOfAnswer("").empty());
}

TEST_F(TokenSourceTest, IsRenewedBeforeItEndsAndUsableMeanwhile) {
  const std::string first = Ingest();
  clock_.now += seconds(539);
  Step();
  EXPECT_EQ(requests_.size(), 1u);
  clock_.now += seconds(1);
  source_->Step(clock_.now);
  EXPECT_EQ(requests_.size(), 2u);
  EXPECT_EQ(Ingest(), first);
  Step();
  EXPECT_NE(Ingest(), first);
}

TEST_F(TokenSourceTest, AVeryShortLifeIsRenewedHalfWay) {
  life_ = 20;
  for (int i = 0; i < 10; ++i) {
    EXPECT_GT(ReadJwtTimes(Ingest())->expires_at, clock_.WallNow() / 1'000'000 + 1);
    clock_.now += seconds(7);
    Step();
  }
  EXPECT_GE(requests_.size(), 5u);
}

TEST_F(TokenSourceTest, TheJwtIsSignedAnewBeforeItEnds) {
  const std::string first = Text(source_->Account(clock_.now).ValueOrDie());
  clock_.now += minutes(49);
  EXPECT_EQ(Text(source_->Account(clock_.now).ValueOrDie()), first);
  clock_.now += minutes(1);
  EXPECT_NE(Text(source_->Account(clock_.now).ValueOrDie()), first);
}

TEST_F(TokenSourceTest, FailuresOfTheExchangeAreTriedAgain) {
  replies_ = {ScriptedHttpClient::Fail(HttpFailure::kUnreachable),
              ScriptedHttpClient::Answer(503, "busy"), ScriptedHttpClient::Answer(200, "<html>"),
              ScriptedHttpClient::Answer(429, "", {{"retry-after", "9"}})};
  EXPECT_FALSE(Ingest().empty());
  EXPECT_EQ(requests_.size(), 5u);
  EXPECT_GE(clock_.now - clock_.start, seconds(9));
}

TEST_F(TokenSourceTest, ARefusedKeyEndsAsAuth) {
  replies_ = {ScriptedHttpClient::Answer(401, "no"), ScriptedHttpClient::Answer(401, "no")};
  EXPECT_TRUE(Ingest().empty());
  EXPECT_EQ(KindOf(error_), ErrorKind::kAuth);
  EXPECT_EQ(PartsOf(error_).code, "ETL-D103");
  EXPECT_THAT(ErrorLine(error_), HasSubstr(TestKey()->fingerprint()));
  // Nothing more is sent until there is another key.
  clock_.now += minutes(30);
  Step();
  EXPECT_EQ(requests_.size(), 2u);
}

TEST_F(TokenSourceTest, ANewKeyFileIsTakenUpAfterARefusal) {
  replies_ = {ScriptedHttpClient::Answer(401, "no")};
  key_ = 1;
  EXPECT_FALSE(Ingest().empty());
  EXPECT_EQ(requests_.size(), 2u);
  EXPECT_EQ(source_->fingerprint(), TestKey(1)->fingerprint());
}

TEST_F(TokenSourceTest, AChangedFileIsNoticedAndTheTokenInUseStays) {
  const std::string token = Ingest();
  key_ = 1;
  key_changed_ = true;
  clock_.now += seconds(5);
  Step();
  EXPECT_EQ(source_->fingerprint(), TestKey(1)->fingerprint());
  EXPECT_EQ(Ingest(), token);
}

TEST_F(TokenSourceTest, ARefusedTokenIsReplacedOnceForAllThatUseIt) {
  const std::string token = Ingest();
  const Bearer bearer = source_->Ingest(clock_.now).ValueOrDie();
  source_->Refused(bearer, "", clock_.now);
  const std::string next = Ingest();
  EXPECT_NE(next, token);
  // Late refusals of the old one change nothing.
  source_->Refused(bearer, "", clock_.now);
  EXPECT_EQ(Ingest(), next);
  EXPECT_EQ(requests_.size(), 2u);
}

TEST_F(TokenSourceTest, AWrongClockIsAllowedForOnceTheServerRefuses) {
  clock_.wall_start -= 600'000'000;  // ten minutes late
  const Bearer bearer = source_->Account(clock_.now).ValueOrDie();
  source_->Refused(bearer, "Fri, 15 Jan 2027 08:00:00 GMT", clock_.now);  // 1800000000
  const std::string token = Text(source_->Account(clock_.now).ValueOrDie());
  EXPECT_EQ(ReadJwtTimes(token)->issued_at, 1'800'000'000);
}

TEST_F(TokenSourceTest, AnotherIngestHostNeedsAnotherToken) {
  const std::string token = Ingest();
  source_->SetIngestHost("other.example.com");
  EXPECT_NE(Ingest(), token);
  EXPECT_THAT(requests_.back().body, HasSubstr("scope=other.example.com"));
}

}  // namespace
}  // namespace etl

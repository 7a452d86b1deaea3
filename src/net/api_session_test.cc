#include "net/api_session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/key_testing.h"
#include "net/service_testing.h"

namespace etl {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Reply = ScriptedHttpClient::Reply;

class ApiSessionTest : public ::testing::Test {
 protected:
  ApiSessionTest()
      : http_([this](const HttpRequest& request) { return Handle(request); }),
        tokens_({.account_url = "https://a.example.com", .account = "A", .user = "U"},
                TestOrigin(&key_), http_, clock_, 1),
        session_({}, http_, tokens_, clock_, 2) {
    EXPECT_TRUE(tokens_.Start(clock_.now).ok());
    tokens_.SetIngestHost("i.example.com");
  }

  Reply Handle(const HttpRequest& request) {
    if (request.url.ends_with("/oauth/token")) {
      ++exchanges_;
      return ScriptedHttpClient::Answer(
          200, TestToken("t" + std::to_string(exchanges_), clock_.WallNow() / 1'000'000, 600));
    }
    urls_.push_back(request.url);
    bearers_.emplace_back(request.bearer->Reveal());
    bodies_.push_back(request.body.bytes.data());
    if (replies_.empty()) return ScriptedHttpClient::Answer(200, "fine");
    Reply reply = replies_.front();
    replies_.erase(replies_.begin());
    return reply;
  }

  ApiResult Call(ApiCall call) {
    std::optional<ApiResult> result;
    session_.Start(
        std::move(call), [&](ApiResult got, Instant) { result = std::move(got); }, clock_.now);
    EXPECT_TRUE(RunUntil(
        clock_, [&](Instant now) { return session_.Step(now); },
        [&](Instant now) { return session_.next_deadline(now); },
        [&] { return result.has_value(); }));
    return std::move(*result);
  }
  static ApiCall Append() {
    return {.what = "append",
            .host = ApiHost::kIngest,
            .method = HttpMethod::kPost,
            .url = "https://i.example.com/rows",
            .query = "a=1",
            .body = HttpBody::Of("row")};
  }

  TestClock clock_;
  int key_ = 0;
  int exchanges_ = 0;
  std::vector<Reply> replies_;
  std::vector<std::string> urls_;
  std::vector<std::string> bearers_;
  std::vector<const void*> bodies_;
  ScriptedHttpClient http_;
  TokenSource tokens_;
  ApiSession session_;
};

TEST_F(ApiSessionTest, EveryAttemptHasTheSameIdAndBytesAndItsNumber) {
  replies_ = {ScriptedHttpClient::Fail(HttpFailure::kBroken), ScriptedHttpClient::Answer(503, ""),
              ScriptedHttpClient::Answer(408, "")};
  const ApiResult result = Call(Append());
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.attempts, 4);
  ASSERT_EQ(urls_.size(), 4u);
  const std::string id = urls_[0].substr(urls_[0].find("requestId="), 10 + 36);
  for (size_t i = 0; i < urls_.size(); ++i) {
    EXPECT_EQ(urls_[i],
              "https://i.example.com/rows?a=1&" + id + "&retryCount=" + std::to_string(i));
    EXPECT_EQ(bodies_[i], bodies_[0]);
  }
}

TEST_F(ApiSessionTest, TheSqlApiIsToldByAFlag) {
  replies_ = {ScriptedHttpClient::Answer(500, "")};
  ApiCall call = Append();
  call.host = ApiHost::kAccount;
  call.numbering = ApiNumbering::kRetryFlag;
  EXPECT_TRUE(Call(std::move(call)).status.ok());
  EXPECT_THAT(urls_[0], Not(HasSubstr("retry=")));
  EXPECT_THAT(urls_[1], HasSubstr("&retry=true"));
}

TEST_F(ApiSessionTest, AnswersThatAreNotRetriedAreTheCallersToJudge) {
  for (int code : {200, 201, 202, 302, 400, 404, 409, 410, 413, 422}) {
    replies_ = {ScriptedHttpClient::Answer(code, "x")};
    const ApiResult result = Call(Append());
    EXPECT_TRUE(result.status.ok());
    EXPECT_EQ(result.response.code, code);
    EXPECT_EQ(result.attempts, 1);
  }
}

TEST_F(ApiSessionTest, ThePauseThatTheServerAsksForIsKept) {
  replies_ = {ScriptedHttpClient::Answer(429, "", {{"retry-after", "17"}})};
  EXPECT_TRUE(Call(Append()).status.ok());
  EXPECT_GE(clock_.now - clock_.start, seconds(17));
}

TEST_F(ApiSessionTest, ARefusedTokenIsRenewedOnceAndTheRequestIsNotLost) {
  replies_ = {ScriptedHttpClient::Answer(401, "")};
  EXPECT_TRUE(Call(Append()).status.ok());
  EXPECT_EQ(exchanges_, 2);
  EXPECT_NE(bearers_[0], bearers_[1]);
  replies_ = {ScriptedHttpClient::Answer(401, ""), ScriptedHttpClient::Answer(401, "")};
  const ApiResult result = Call(Append());
  EXPECT_EQ(KindOf(result.status), ErrorKind::kAuth);
  EXPECT_EQ(PartsOf(result.status).code, "ETL-D103");
}

TEST_F(ApiSessionTest, AnUnknownOutcomeIsSaidSo) {
  const auto forever = [&](const Reply& reply) {
    replies_.assign(1000, reply);
    ApiCall call = Append();
    call.retry.within = seconds(20);
    return Call(std::move(call));
  };
  ApiResult result = forever(ScriptedHttpClient::Fail(HttpFailure::kBroken));
  EXPECT_TRUE(result.outcome_unknown);
  EXPECT_EQ(PartsOf(result.status).code, "ETL-D111");
  clock_.now += seconds(100);
  result = forever(ScriptedHttpClient::Answer(429, "slow down"));
  EXPECT_FALSE(result.outcome_unknown);
  EXPECT_EQ(KindOf(result.status), ErrorKind::kThrottled);
  clock_.now += seconds(100);
  result = forever(ScriptedHttpClient::Fail(HttpFailure::kUnreachable));
  EXPECT_FALSE(result.outcome_unknown);
  EXPECT_EQ(PartsOf(result.status).code, "ETL-D101");
  EXPECT_EQ(KindOf(result.status), ErrorKind::kTransient);
}

TEST_F(ApiSessionTest, OneAnswerThatIsLateIsSentAgainWithinTheDeadline) {
  replies_ = {ScriptedHttpClient::Never()};
  ApiCall call = Append();
  call.total = seconds(10);
  const ApiResult result = Call(std::move(call));
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.attempts, 2);
}

TEST_F(ApiSessionTest, TheOtherSidesIdentityIsNotTriedAgain) {
  replies_ = {ScriptedHttpClient::Fail(HttpFailure::kTls)};
  const ApiResult result = Call(Append());
  EXPECT_EQ(PartsOf(result.status).code, "ETL-D102");
  EXPECT_EQ(result.attempts, 1);
}

TEST_F(ApiSessionTest, TheBreakerKeepsAServiceThatIsDownFromBeingAsked) {
  replies_.assign(5, ScriptedHttpClient::Answer(500, ""));
  ApiCall call = Append();
  call.retry = {.initial = milliseconds(100), .within = std::chrono::minutes(5)};
  EXPECT_TRUE(Call(std::move(call)).status.ok());
  EXPECT_EQ(urls_.size(), 6u);
  EXPECT_GE(clock_.now - clock_.start, seconds(30));
  EXPECT_EQ(session_.breaker_state(clock_.now), CircuitBreaker::State::kHalfOpen);
  Call(Append());
  EXPECT_EQ(session_.breaker_state(clock_.now), CircuitBreaker::State::kClosed);
}

TEST_F(ApiSessionTest, CancelledCallsAreNeverHeardOfAgain) {
  bool called = false;
  const auto id = session_.Start(
      Append(), [&](const ApiResult&, Instant) { called = true; }, clock_.now);
  session_.Step(clock_.now);
  session_.Cancel(id);
  for (int i = 0; i < 20; ++i) {
    clock_.now += seconds(10);
    session_.Step(clock_.now);
  }
  EXPECT_FALSE(called);
  EXPECT_EQ(session_.calls(), 0u);
}

TEST_F(ApiSessionTest, AnEchoedTokenIsTakenOutOfTheError) {
  ASSERT_TRUE(Call(Append()).status.ok());
  const std::string token = bearers_[0];
  replies_.assign(100, ScriptedHttpClient::Answer(502, "bad gateway: Bearer " + token));
  ApiCall call = Append();
  call.retry.within = seconds(10);
  ::testing::internal::CaptureStderr();
  const ApiResult result = Call(std::move(call));
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_FALSE(result.status.ok());
  EXPECT_THAT(ErrorLine(result.status), HasSubstr("Bearer ***"));
  EXPECT_THAT(ErrorLine(result.status), Not(HasSubstr(token)));
  EXPECT_THAT(log, Not(HasSubstr(token)));
}

TEST(RequestId, LooksLikeAUuid) {
  Random random(3);
  EXPECT_THAT(MakeRequestId(random),
              ::testing::MatchesRegex(
                  "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"));
}

}  // namespace
}  // namespace etl

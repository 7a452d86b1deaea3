#include "destination/snowflake/streaming_client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "destination/snowflake/streaming_model_testing.h"

namespace etl {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = ChannelEvent::Kind;

std::string Token(int64_t n) { return fmt::format("{:016x}", n); }

StreamBatch Batch(int64_t from, int64_t to, const std::string& word = "row") {
  std::string body;
  for (int64_t n = from; n <= to; ++n) body += fmt::format("{} {}\n", word, n);
  return {.body = HttpBody::Of(body),
          .first = Token(from),
          .last = Token(to),
          .rows = to - from + 1,
          .encoding = "",
          .uncompressed_bytes = static_cast<int64_t>(body.size())};
}

std::vector<std::string> Rows(int64_t from, int64_t to) {
  std::vector<std::string> rows;
  for (int64_t n = from; n <= to; ++n) rows.push_back(fmt::format("row {}", n));
  return rows;
}

class StreamingTest : public ::testing::Test {
 protected:
  explicit StreamingTest(uint64_t seed = 1, StreamingOptions options = {})
      : service_([this](const HttpRequest& request) {
          for (const HttpHeader& header : request.headers)
            headers_[request.url][header.name] = header.value;
          return model_.Handle(request);
        }),
        model_(service_.clock, seed),
        client_(std::move(options), MakeSnowflakeAccount("a", "").ValueOrDie(), service_.session) {}

  bool RunOn(const std::function<bool()>& done, Duration most = minutes(30)) {
    return RunUntil(
        service_.clock,
        [&](Instant now) {
          const bool session = service_.session.Step(now);
          const Result<bool> stepped = client_.Step(now, events_);
          if (!stepped.ok()) error_ = stepped.status();
          for (; seen_ < events_.size(); ++seen_) Check(events_[seen_]);
          return session || (stepped.ok() && *stepped);
        },
        [&](Instant now) {
          return std::min(service_.session.next_deadline(now), client_.next_deadline(now));
        },
        [&] { return done() || !error_.ok(); }, most);
  }
  // What an event claims is true at that moment.
  void Check(const ChannelEvent& event) {
    if (event.kind != Kind::kCommitted) return;
    const std::string& name = client_.channel(event.channel)->address().channel;
    // One that was dropped in the same step had to be committed to the end.
    if (const auto at = model_.channels.find(name); at != model_.channels.end()) {
      ASSERT_LE(event.token, at->second.committed);
    }
    committed_[event.channel] = event.token;
  }
  const ChannelEvent* Find(Kind kind) const {
    for (const ChannelEvent& event : events_) {
      if (event.kind == kind) return &event;
    }
    return nullptr;
  }
  Status Failure() {
    EXPECT_TRUE(RunOn([&] { return Find(Kind::kFailed) != nullptr; }));
    return Find(Kind::kFailed) == nullptr ? Status::OK() : Find(Kind::kFailed)->status;
  }
  size_t Count(const std::string& part) const {
    return static_cast<size_t>(
        std::count_if(model_.requests.begin(), model_.requests.end(),
                      [&](const std::string& url) { return url.find(part) != std::string::npos; }));
  }

  std::map<std::string, std::map<std::string, std::string>> headers_;
  ScriptedService service_;
  StreamingModel model_;
  StreamingClient client_;
  std::vector<ChannelEvent> events_;
  size_t seen_ = 0;
  std::map<ChannelId, std::string> committed_;
  Status error_;
};

const ChannelAddress kAddress{"DB", "My Schema", "ORDERS-STREAMING", "c1"};

TEST_F(StreamingTest, OpensAppendsAndProves) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 3));
  client_.Append(id, Batch(4, 4));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(4); }));
  EXPECT_EQ(model_.table["c1"], Rows(1, 4));
  EXPECT_EQ(events_[0].kind, Kind::kOpened);
  EXPECT_EQ(events_[0].token, "");
  EXPECT_EQ(client_.channel(id)->batches(), 0u);
  EXPECT_THAT(model_.requests[1],
              HasSubstr("https://ingest.a.snowflakecomputing.com/v2/streaming/databases/DB/schemas/"
                        "My%20Schema/pipes/ORDERS-STREAMING/channels/c1?requestId="));
  EXPECT_THAT(model_.requests[2],
              HasSubstr("/v2/streaming/data/databases/DB/schemas/My%20Schema/pipes/"
                        "ORDERS-STREAMING/channels/c1/rows?startOffsetToken=0000000000000001&"
                        "endOffsetToken=0000000000000003&continuationToken=1.0&requestId="));
  EXPECT_EQ(headers_[model_.requests[2]].count("x-snowflake-session"), 0u);
  EXPECT_EQ(headers_[model_.requests[3]]["x-snowflake-session"], "s");
}

TEST_F(StreamingTest, NothingIsAskedWhileNothingWaits) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 1));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(1); }));
  const size_t requests = model_.requests.size();
  EXPECT_FALSE(RunOn([] { return false; }, minutes(5)));
  EXPECT_EQ(model_.requests.size(), requests);
  EXPECT_LE(Count("bulk-channel-status"), 8u);
}

// One append follows the other, so that there is hardly a moment without one on its way.
TEST_F(StreamingTest, IsProvedWhileAppendsGoOn) {
  const ChannelId id = client_.OpenChannel(kAddress);
  int64_t sent = 0;
  for (; sent < 200; ++sent) {
    const Instant next = service_.clock.now + milliseconds(120);
    client_.Append(id, Batch(sent + 1, sent + 1));
    (void)RunOn([] { return false; }, milliseconds(120));
    service_.clock.now = next;
  }
  // Behind by the service's own three seconds and by one look at the status.
  EXPECT_GT(committed_[id], Token(sent - 45));
  EXPECT_LE(Count("bulk-channel-status"), 240u) << "at most ten a second";
}

TEST_F(StreamingTest, AChannelResumesWhereItWasCommitted) {
  const ChannelId first = client_.OpenChannel(kAddress);
  client_.Append(first, Batch(1, 2));
  ASSERT_TRUE(RunOn([&] { return committed_[first] == Token(2); }));
  client_.CloseChannel(first);
  events_.clear();
  seen_ = 0;
  const ChannelId second = client_.OpenChannel(kAddress);
  ASSERT_TRUE(RunOn([&] { return Find(Kind::kOpened) != nullptr; }));
  EXPECT_EQ(Find(Kind::kOpened)->token, Token(2));
  client_.Append(second, Batch(3, 5));
  ASSERT_TRUE(RunOn([&] { return committed_[second] == Token(5); }));
  EXPECT_EQ(model_.table["c1"], Rows(1, 5));
}

TEST_F(StreamingTest, OpeningWaitsForEarlierRowsAndNeverDiscardsThem) {
  model_.faults.commit_lag = seconds(40);
  {
    StreamingClient other({}, MakeSnowflakeAccount("a", "").ValueOrDie(), service_.session);
    const ChannelId id = other.OpenChannel(kAddress);
    other.Append(id, Batch(1, 2));
    RunUntil(
        service_.clock,
        [&](Instant now) {
          std::vector<ChannelEvent> events;
          const bool session = service_.session.Step(now);
          return *other.Step(now, events) || session;
        },
        [&](Instant now) {
          return std::min(service_.session.next_deadline(now), other.next_deadline(now));
        },
        [&] { return other.channel(id)->accepted() == 1; });
  }
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(3, 3));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(3); }));
  EXPECT_EQ(model_.table["c1"], Rows(1, 3));
  EXPECT_GT(service_.clock.now - service_.clock.start, seconds(40));
}

TEST_F(StreamingTest, RowsThatAreNeverCommittedEndTheWait) {
  model_.faults.commit_lag = std::chrono::hours(10);
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 1));
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->accepted() == 1; }));
  client_.Append(id, Batch(2, 2));
  model_.append_answers = {{400, R"({"code":"STALE_CONTINUATION_TOKEN_SEQUENCER"})"}};
  const Status status = Failure();
  EXPECT_EQ(PartsOf(status).code, "ETL-D108");
  EXPECT_EQ(KindOf(status), ErrorKind::kTransient);
  EXPECT_GE(service_.clock.now - service_.clock.start, seconds(180));
}

TEST_F(StreamingTest, ALostAnswerOfAnAppliedAppendLeavesNeitherGapNorDuplicate) {
  for (bool idempotent : {false, true}) {
    model_.faults.idempotent = idempotent;
    const std::string name = idempotent ? "yes" : "no";
    const ChannelId id = client_.OpenChannel({"DB", "S", "P", name});
    client_.Append(id, Batch(1, 2));
    ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(2); }));
    model_.faults.lose_one_in = 1;
    client_.Append(id, Batch(3, 4));
    client_.Append(id, Batch(5, 6));
    ASSERT_TRUE(RunOn([&] { return !model_.channels[name].buffered.empty(); }));
    model_.faults.lose_one_in = 0;
    ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(6); }));
    EXPECT_EQ(model_.table[name], Rows(1, 6));
  }
}

TEST_F(StreamingTest, ARejectedRowStopsTheChannelBeforeItIsConfirmed) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 2));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(2); }));
  client_.Append(id, Batch(3, 3, "bad"));
  const Status status = Failure();
  EXPECT_EQ(KindOf(status), ErrorKind::kData);
  EXPECT_EQ(PartsOf(status).code, "ETL-D112");
  EXPECT_EQ(committed_[id], Token(2));
}

TEST_F(StreamingTest, ErrorsFromBeforeItWasOpenedDoNotCount) {
  model_.channels["c1"] = {.created_on_ms = 1, .committed = Token(5), .inserted = 4, .errors = 1};
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(6, 7));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(7); }));
}

TEST_F(StreamingTest, RowsThatAreNotCountedAreNotConfirmed) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 2));
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->accepted() == 1; }));
  model_.channels["c1"].inserted = -1;  // one row will be missing from the count
  const Status status = Failure();
  EXPECT_EQ(PartsOf(status).code, "ETL-D112");
  EXPECT_EQ(committed_.count(id), 0u);
}

TEST_F(StreamingTest, AChannelThatWasMadeAnewIsNotTakenForTheOldOne) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 2));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(2); }));
  model_.channels.clear();
  client_.Append(id, Batch(3, 3));
  const Status status = Failure();
  EXPECT_EQ(PartsOf(status).code, "ETL-D108");
  EXPECT_EQ(KindOf(status), ErrorKind::kTransient);
  EXPECT_EQ(committed_[id], Token(2));
}

TEST_F(StreamingTest, AnotherOwnerIsNotFought) {
  const ChannelId id = client_.OpenChannel(kAddress);
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->ready(); }));
  model_.append_answers = {{400, R"({"code":"ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER"})"}};
  client_.Append(id, Batch(1, 1));
  EXPECT_EQ(KindOf(Failure()), ErrorKind::kBusy);
  EXPECT_EQ(Count("/channels/c1?"), 1u);
}

TEST_F(StreamingTest, OpeningAgainAndAgainComesToAnEnd) {
  const ChannelId id = client_.OpenChannel(kAddress);
  for (int i = 0; i < 100; ++i)
    model_.append_answers.emplace_back(409, R"({"code":"ERR_CHANNEL_MUST_BE_REOPENED"})");
  client_.Append(id, Batch(1, 1));
  EXPECT_EQ(PartsOf(Failure()).code, "ETL-D108");
  EXPECT_EQ(Count("/channels/c1?"), 6u);
}

TEST_F(StreamingTest, FatalAnswersHaveTheirKind) {
  struct Case {
    int http;
    const char* body;
    ErrorKind kind;
    const char* code;
  };
  const Case cases[] = {
      {404, R"({"code":"ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"})", ErrorKind::kSchema,
       "ETL-D106"},
      {503, R"("ERR_PIPE_IN_INVALID_STATE")", ErrorKind::kSchema, "ETL-D106"},
      {413, "", ErrorKind::kData, "ETL-D109"},
      {400, R"({"code":"X","message":"malformed"})", ErrorKind::kInternal, "ETL-D113"},
  };
  int n = 0;
  for (const Case& one : cases) {
    events_.clear();
    seen_ = 0;
    const ChannelId id = client_.OpenChannel({"DB", "S", "P", fmt::format("f{}", ++n)});
    ASSERT_TRUE(RunOn([&] { return client_.channel(id)->ready(); }));
    model_.append_answers = {{one.http, one.body}};
    client_.Append(id, Batch(1, 1));
    const Status status = Failure();
    EXPECT_EQ(KindOf(status), one.kind) << ErrorLine(status);
    EXPECT_EQ(PartsOf(status).code, one.code);
    EXPECT_TRUE(client_.channel(id)->finished());
  }
}

TEST_F(StreamingTest, RightsThatAreMissingAreToldAfterATokenWasRenewed) {
  const ChannelId id = client_.OpenChannel(kAddress);
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->ready(); }));
  model_.append_answers = {{403, ""}, {403, ""}};
  client_.Append(id, Batch(1, 1));
  EXPECT_EQ(PartsOf(Failure()).code, "ETL-D104");
  EXPECT_EQ(service_.exchanges, 2);
}

TEST_F(StreamingTest, AnUnusableChannelIsNotWrittenTo) {
  model_.open_answers = {
      {200, R"({"next_continuation_token":"x","channel_status":{"channel_status_code":"FAILED",
                "rows_inserted":0,"rows_error_count":0}})"}};
  client_.Append(client_.OpenChannel(kAddress), Batch(1, 1));
  EXPECT_EQ(PartsOf(Failure()).code, "ETL-D108");
  EXPECT_EQ(Count("/rows?"), 0u);
}

TEST_F(StreamingTest, AFailedOverPipeIsFoundAgain) {
  const ChannelId id = client_.OpenChannel(kAddress);
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->ready(); }));
  model_.host = "other.a.snowflakecomputing.com";
  model_.append_answers = {{410, ""}};
  client_.Append(id, Batch(1, 2));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(2); }));
  EXPECT_EQ(Count("hostname"), 2u);
  EXPECT_THAT(model_.requests.back(), HasSubstr("https://other.a.snowflakecomputing.com/"));
  EXPECT_EQ(model_.table["c1"], Rows(1, 2));
  EXPECT_EQ(service_.exchanges, 2);
}

TEST_F(StreamingTest, AHostThatCannotBeFoundConcernsAll) {
  model_.host_code = 403;
  client_.OpenChannel(kAddress);
  RunOn([] { return false; }, minutes(1));
  EXPECT_EQ(PartsOf(error_).code, "ETL-D104");
}

TEST_F(StreamingTest, NeverMoreThanTenRequestsASecondAChannel) {
  model_.faults.commit_lag = milliseconds(10);
  const ChannelId id = client_.OpenChannel(kAddress);
  for (int i = 1; i <= 40; ++i) client_.Append(id, Batch(i, i));
  ASSERT_TRUE(RunOn([&] { return committed_[id] == Token(40); }));
  EXPECT_GE(service_.clock.now - service_.clock.start, milliseconds(4000));
  EXPECT_EQ(model_.table["c1"], Rows(1, 40));
}

TEST_F(StreamingTest, OneStatusRequestServesAllChannelsOfAPipe) {
  std::vector<ChannelId> ids;
  for (int i = 0; i < 20; ++i) {
    ids.push_back(client_.OpenChannel({"DB", "S", "P", fmt::format("n{}x", i)}));
    client_.Append(ids.back(), Batch(1, 2));
  }
  ASSERT_TRUE(RunOn([&] { return committed_.size() == 20; }));
  EXPECT_LE(Count("bulk-channel-status"), 10u);
}

TEST_F(StreamingTest, DroppingWaitsForTheLastRows) {
  const ChannelId id = client_.OpenChannel(kAddress);
  client_.Append(id, Batch(1, 2));
  client_.DropChannel(id);
  ASSERT_TRUE(RunOn([&] { return Find(Kind::kDropped) != nullptr; }));
  EXPECT_EQ(committed_[id], Token(2));
  EXPECT_TRUE(model_.channels.empty());
}

TEST_F(StreamingTest, ErrorsAndLogHoldNeitherTokensNorRows) {
  ::testing::internal::CaptureStderr();
  const ChannelId id = client_.OpenChannel(kAddress);
  ASSERT_TRUE(RunOn([&] { return client_.channel(id)->ready(); }));
  model_.faults.refuse_one_in = 2;
  client_.Append(id, Batch(1, 2, "canary-row"));
  RunOn([&] { return committed_[id] == Token(2); });
  model_.faults.refuse_one_in = 0;
  model_.append_answers = {{401, ""}, {401, ""}};
  client_.Append(id, Batch(3, 3, "canary-row"));
  const std::string error = ErrorLine(Failure());
  const std::string log = ::testing::internal::GetCapturedStderr();
  const std::string scoped(
      service_.tokens.Ingest(service_.clock.now).ValueOrDie() == nullptr ? "e30.canary" : "e30.");
  for (const std::string& text : {error, log}) {
    EXPECT_THAT(text, Not(HasSubstr("canary-row")));
    EXPECT_THAT(text, Not(HasSubstr("eyJ")));
    EXPECT_THAT(text, Not(HasSubstr(scoped)));
    EXPECT_THAT(text, Not(HasSubstr("Bearer")));
  }
}

// Any mixture of faults: every row once and in order, and nothing confirmed that is not there.

class StreamingRun : public StreamingTest {
 public:
  explicit StreamingRun(uint64_t seed)
      : StreamingTest(seed, {.retry = {.initial = milliseconds(200), .within = minutes(10)},
                             .reopens_max = 1000}) {}
  void TestBody() override {}
  void Run(uint64_t seed) {
    Random random(seed);
    model_.faults = {.refuse_one_in = random.OneIn(3) ? 0 : 3 + random.Below(20),
                     .lose_one_in = random.OneIn(3) ? 0 : 3 + random.Below(20),
                     .token_one_in = random.OneIn(2) ? 0 : 5 + random.Below(20),
                     .idempotent = random.OneIn(2),
                     .commit_lag = milliseconds(random.Below(8000))};
    std::map<ChannelId, int64_t> sent;
    for (const char* name : {"c1", "c2", "c3"})
      sent[client_.OpenChannel({"DB", "S", name[1] == '3' ? "Q" : "P", name})] = 0;
    for (int round = 0; round < 12; ++round) {
      for (auto& [id, last] : sent) {
        for (uint64_t n = random.Below(4); n > 0; --n) {
          const int64_t from = last + 1;
          last += 1 + static_cast<int64_t>(random.Below(5));
          client_.Append(id, Batch(from, last));
        }
      }
      RunOn([] { return false; }, milliseconds(random.Below(3000)));
    }
    const bool done = RunOn(
        [&] {
          for (const auto& [id, last] : sent) {
            if (last > 0 && committed_[id] != Token(last)) return false;
          }
          return true;
        },
        std::chrono::hours(3));
    const ChannelEvent* failed = Find(Kind::kFailed);
    EXPECT_TRUE(done) << (failed != nullptr ? ErrorLine(failed->status) : ErrorLine(error_));
    for (const auto& [id, last] : sent) {
      const ChannelClient* channel = client_.channel(id);
      EXPECT_EQ(model_.table[channel->address().channel], Rows(1, last)) << "seed " << seed;
    }
  }
};

TEST(StreamingFault, EveryRowIsThereOnceAndInOrderUnderAnyFaults) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    ::testing::internal::CaptureStderr();
    StreamingRun run(seed);
    run.Run(seed);
    ::testing::internal::GetCapturedStderr();
    if (::testing::Test::HasFailure()) FAIL() << "seed " << seed;
  }
}

}  // namespace
}  // namespace etl

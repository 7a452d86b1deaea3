#include "destination/snowflake/sql_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "destination/snowflake/service_testing.h"

namespace etl {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Reply = ScriptedHttpClient::Reply;

Reply Answer(int code, const std::string& body) { return ScriptedHttpClient::Answer(code, body); }

const char* kRunning = R"({"code":"333334","message":"running","statementHandle":"h-1"})";

std::string Rows(const std::string& data, const std::string& partitions = "[{}]") {
  return R"({"code":"090001","sqlState":"00000","statementHandle":"h-1","resultSetMetaData":)"
         R"({"numRows":1,"rowType":[{"name":"A","type":"FIXED"},{"name":"b","type":"TEXT"}],)"
         R"("partitionInfo":)" +
         partitions + R"(},"data":)" + data + "}";
}

class SqlClientTest : public ::testing::Test {
 protected:
  SqlClientTest()
      : service_([this](const HttpRequest& request) {
          lines_.push_back(std::string(HttpMethodName(request.method)) + " " +
                           request.url.substr(request.url.find("/api")));
          bodies_.emplace_back(request.body.bytes);
          if (replies_.empty()) return Answer(500, "nothing scripted");
          Reply reply = replies_.front();
          replies_.erase(replies_.begin());
          return reply;
        }),
        sql_({}, MakeSnowflakeAccount("a", "").ValueOrDie(), service_.session) {}

  SqlOutcome Run(const SqlRequest& request) {
    std::optional<SqlOutcome> outcome;
    sql_.Run(
        request, [&](SqlOutcome got, Instant) { outcome = std::move(got); }, service_.clock.now);
    EXPECT_TRUE(RunOn([&] { return outcome.has_value(); }));
    return outcome.has_value() ? std::move(*outcome) : SqlOutcome();
  }
  bool RunOn(const std::function<bool()>& done) {
    return RunUntil(
        service_.clock,
        [&](Instant now) {
          const bool session = service_.session.Step(now);
          return sql_.Step(now) || session;
        },
        [&](Instant now) {
          return std::min(service_.session.next_deadline(now), sql_.next_deadline());
        },
        done, minutes(60));
  }

  std::vector<std::string> lines_;
  std::vector<std::string> bodies_;
  std::vector<Reply> replies_;
  ScriptedService service_;
  SqlClient sql_;
};

TEST_F(SqlClientTest, RowsAreTextsAndNulls) {
  replies_ = {Answer(200, Rows(R"([["1",null],["2","x"]])"))};
  const SqlOutcome outcome = Run({.what = "ask", .text = "SELECT 1"});
  ASSERT_TRUE(outcome.status.ok()) << ErrorLine(outcome.status);
  ASSERT_EQ(outcome.results.size(), 1u);
  EXPECT_EQ(outcome.results[0].columns[1].name, "b");
  EXPECT_EQ(outcome.results[0].rows.size(), 2u);
  EXPECT_EQ(outcome.results[0].rows[0][1], std::nullopt);
  EXPECT_EQ(outcome.results[0].First("a"), "1");
  EXPECT_THAT(lines_[0], StartsWith("POST /api/v2/statements?requestId="));
}

TEST_F(SqlClientTest, TheBodySaysEverything) {
  replies_ = {Answer(200, Rows("[]"))};
  Run({.what = "x",
       .text = "SELECT ?; SELECT 2",
       .statements = 2,
       .bindings = {{"FIXED", "1"}, {"TEXT", std::nullopt}},
       .database = "D",
       .schema = "S",
       .warehouse = "W",
       .role = "R",
       .parameters = {{"timezone", "UTC"}},
       .query_tag = "etl",
       .timeout = seconds(30)});
  EXPECT_EQ(nlohmann::json::parse(bodies_[0]),
            nlohmann::json::parse(R"({"statement":"SELECT ?; SELECT 2","timeout":30,"database":"D",
              "schema":"S","warehouse":"W","role":"R",
              "bindings":{"1":{"type":"FIXED","value":"1"},"2":{"type":"TEXT","value":null}},
              "parameters":{"MULTI_STATEMENT_COUNT":"2","query_tag":"etl","timezone":"UTC"}})"));
}

TEST_F(SqlClientTest, ALongStatementIsPolledWithGrowingPauses) {
  replies_.assign(12, Answer(202, kRunning));
  replies_.push_back(Answer(200, Rows("[]")));
  EXPECT_TRUE(Run({.what = "x", .text = "SELECT 1"}).status.ok());
  EXPECT_THAT(lines_[1], StartsWith("GET /api/v2/statements/h-1?requestId="));
  EXPECT_EQ(lines_.size(), 13u);
  // 0.1 + 0.2 + … + 3.2, then 5 each time.
  EXPECT_EQ(service_.clock.now - service_.clock.start, std::chrono::milliseconds(6300 + 6 * 5000));
}

TEST_F(SqlClientTest, EveryPartitionIsFetched) {
  replies_ = {Answer(200, Rows(R"([["1","a"]])", "[{},{},{}]")),
              Answer(200, R"({"data":[["2","b"]]})"),
              Answer(200, R"({"data":[["3","c"],["4","d"]]})")};
  const SqlOutcome outcome = Run({.what = "x", .text = "SELECT 1"});
  EXPECT_EQ(outcome.results[0].rows.size(), 4u);
  EXPECT_THAT(lines_[1], StartsWith("GET /api/v2/statements/h-1?partition=1&"));
  EXPECT_THAT(lines_[2], StartsWith("GET /api/v2/statements/h-1?partition=2&"));
}

TEST_F(SqlClientTest, SeveralStatementsHaveAResultEach) {
  replies_ = {
      Answer(202, kRunning),
      Answer(200, R"({"code":"090001","statementHandle":"h-1","statementHandles":["s-1","s-2"],
                      "data":[["Multiple statements executed successfully."]]})"),
      Answer(200, R"({"code":"090001","statementHandle":"s-1","stats":{"numRowsInserted":3}})"),
      Answer(202, kRunning),
      Answer(200, Rows(R"([["7",null]])", "[{},{}]")),
      Answer(200, R"({"data":[["8",null]]})")};
  const SqlOutcome outcome = Run({.what = "x", .text = "INSERT …; SELECT …", .statements = 2});
  ASSERT_TRUE(outcome.status.ok());
  ASSERT_EQ(outcome.results.size(), 2u);
  EXPECT_EQ(outcome.results[0].rows_inserted, 3);
  EXPECT_EQ(outcome.results[1].rows.size(), 2u);
  EXPECT_THAT(lines_.back(), StartsWith("GET /api/v2/statements/s-2?partition=1&"));
}

TEST_F(SqlClientTest, ALostAnswerIsAskedForAgainUnderTheSameId) {
  replies_ = {ScriptedHttpClient::Fail(HttpFailure::kBroken), Answer(503, "x"),
              Answer(200, Rows("[]"))};
  EXPECT_TRUE(Run({.what = "x", .text = "INSERT 1"}).status.ok());
  EXPECT_THAT(lines_[0], Not(HasSubstr("retry")));
  EXPECT_EQ(lines_[1], lines_[0] + "&retry=true");
  EXPECT_EQ(lines_[2], lines_[1]);
  EXPECT_EQ(bodies_[2], bodies_[0]);
}

TEST_F(SqlClientTest, AnOutcomeThatNobodyKnowsIsSaidSo) {
  replies_.assign(1000, ScriptedHttpClient::Fail(HttpFailure::kBroken));
  SqlOutcome outcome = Run({.what = "x", .text = "INSERT 1"});
  EXPECT_TRUE(outcome.outcome_unknown);
  EXPECT_EQ(PartsOf(outcome.status).code, "ETL-D111");
  replies_.assign(1000, ScriptedHttpClient::Fail(HttpFailure::kUnreachable));
  service_.clock.now += minutes(10);
  outcome = Run({.what = "x", .text = "INSERT 1"});
  EXPECT_FALSE(outcome.outcome_unknown);
  // Taken, but never heard of again.
  service_.clock.now += minutes(10);
  replies_ = {Answer(202, kRunning)};
  outcome = Run({.what = "x", .text = "INSERT 1", .timeout = minutes(1)});
  EXPECT_TRUE(outcome.outcome_unknown);
}

TEST_F(SqlClientTest, WhatRunsForTooLongIsCancelled) {
  replies_.assign(1000, Answer(202, kRunning));
  const SqlOutcome outcome = Run({.what = "x", .text = "CALL slow()", .timeout = seconds(30)});
  EXPECT_TRUE(outcome.outcome_unknown);
  EXPECT_EQ(service_.clock.now - service_.clock.start, seconds(90));
  EXPECT_THAT(lines_.back(), StartsWith("POST /api/v2/statements/h-1/cancel?requestId="));
}

TEST_F(SqlClientTest, CancellingTellsTheServerAndNobodyElse) {
  replies_ = {Answer(202, kRunning)};
  bool called = false;
  const SqlClient::Id id = sql_.Run(
      {.what = "x", .text = "y"}, [&](const SqlOutcome&, Instant) { called = true; },
      service_.clock.now);
  RunOn([&] { return lines_.size() == 1 && service_.session.calls() == 0; });
  replies_ = {Answer(200, R"({"code":"000604"})")};
  sql_.Cancel(id, service_.clock.now);
  RunOn([&] { return service_.session.calls() == 0; });
  EXPECT_FALSE(called);
  EXPECT_THAT(lines_.back(), HasSubstr("/h-1/cancel?"));
}

TEST_F(SqlClientTest, ErrorsAreClassified) {
  struct Case {
    int http;
    const char* body;
    ErrorKind kind;
    const char* code;
  };
  const Case cases[] = {
      {422,
       R"({"code":"002003","sqlState":"42S02","message":"Object 'T' does not exist or not authorized."})",
       ErrorKind::kSchema, "ETL-D106"},
      {422, R"({"code":"000904","sqlState":"42000","message":"invalid identifier 'X'"})",
       ErrorKind::kSchema, "ETL-D106"},
      {422, R"({"code":"002002","sqlState":"42710","message":"Object 'T' already exists."})",
       ErrorKind::kSchema, "ETL-D106"},
      {422, R"({"code":"003001","sqlState":"42501","message":"Insufficient privileges"})",
       ErrorKind::kAuth, "ETL-D104"},
      {422,
       R"({"code":"100038","sqlState":"22018","message":"Numeric value 'x' is not recognized"})",
       ErrorKind::kData, "ETL-D105"},
      {422, R"({"code":"000604","sqlState":"57014","message":"canceled"})", ErrorKind::kTransient,
       "ETL-D105"},
      {408, R"({"code":"000630","sqlState":"57014","message":"timeout"})", ErrorKind::kTransient,
       "ETL-D105"},
      {422,
       R"({"code":"001003","sqlState":"42000","message":"SQL compilation error: syntax error"})",
       ErrorKind::kInternal, "ETL-D105"},
      {422,
       R"({"code":"100132","sqlState":"P0000","message":"Statement 2 at line 1, position 9: Insufficient privileges to operate on table 'T'"})",
       ErrorKind::kAuth, "ETL-D104"},
      {400, R"({"code":"390142","message":"malformed"})", ErrorKind::kAuth, "ETL-D103"},
      {404, "<html>", ErrorKind::kInternal, "ETL-D105"},
      {403, "", ErrorKind::kAuth, "ETL-D104"},
  };
  for (const Case& one : cases) {
    replies_ = {Answer(one.http, one.body)};
    const SqlOutcome outcome = Run({.what = "merge t", .text = "MERGE …"});
    EXPECT_EQ(KindOf(outcome.status), one.kind) << one.body;
    EXPECT_EQ(PartsOf(outcome.status).code, one.code) << one.body;
    EXPECT_THAT(PartsOf(outcome.status).what, HasSubstr("merge t"));
    ASSERT_TRUE(outcome.failure.has_value());
    EXPECT_EQ(outcome.failure->http, one.http);
  }
}

TEST_F(SqlClientTest, AnswersThatCannotBeReadAreErrors) {
  for (const char* body : {"", "[]", "{", R"({"data":7})", R"({"data":[7]})",
                           R"({"resultSetMetaData":[]})", R"({"statementHandles":[1]})"}) {
    replies_ = {Answer(200, body)};
    const SqlOutcome outcome = Run({.what = "x", .text = "y"});
    EXPECT_EQ(PartsOf(outcome.status).code, "ETL-D113") << body;
    EXPECT_TRUE(outcome.outcome_unknown);
  }
}

}  // namespace
}  // namespace etl

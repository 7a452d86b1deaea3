#include "destination/snowflake/streaming_answer.h"

#include <gtest/gtest.h>

namespace etl {
namespace {

constexpr std::string_view kOpen =
    R"({"next_continuation_token":"ct","channel_status":{"channel_status_code":"SUCCESS",
    "last_committed_offset_token":"17","created_on_ms":1760000000000,"rows_inserted":5,
    "rows_parsed":6,"rows_error_count":1,"last_error_offset_upper_bound":"9",
    "last_error_message":"bad","new_field":{}}})";

TEST(StreamingAnswer, AnOpenedChannelIsRead) {
  const OpenAnswer answer = ParseOpenAnswer(kOpen).value();
  EXPECT_EQ(answer.continuation_token, "ct");
  EXPECT_TRUE(answer.status.usable());
  EXPECT_EQ(answer.status.committed, "17");
  EXPECT_EQ(answer.status.created_on_ms, 1760000000000);
  EXPECT_EQ(answer.status.rows_inserted, 5);
  EXPECT_EQ(answer.status.rows_error_count, 1);
  EXPECT_EQ(answer.status.last_error_token, "9");
}

TEST(StreamingAnswer, OlderNamesAndEmptyTokensAreUnderstood) {
  const auto statuses = ParseStatusAnswer(
      R"({"channel_statuses":{"c":{"channel_status_code":"0","last_committed_offset_token":"",
      "rows_inserted":"12","rows_errors":3,"last_error_offset_upper_bound":null}}})");
  ASSERT_TRUE(statuses.has_value());
  EXPECT_EQ(statuses->at("c").committed, std::nullopt);
  EXPECT_EQ(statuses->at("c").rows_inserted, 12);
  EXPECT_EQ(statuses->at("c").rows_error_count, 3);
  EXPECT_TRUE(statuses->at("c").usable());
  EXPECT_TRUE(ParseStatusAnswer(R"({"channel_statuses":{}})")->empty());
}

TEST(StreamingAnswer, CountersThatCannotBeReadAreNoProof) {
  for (const char* status :
       {R"({"channel_status_code":"SUCCESS","rows_inserted":1})",
        R"({"channel_status_code":"SUCCESS","rows_error_count":1})",
        R"({"rows_inserted":"x","rows_error_count":0})",
        R"({"rows_inserted":1.5,"rows_error_count":0})",
        R"({"rows_inserted":-1e3,"rows_error_count":0})",
        R"({"rows_inserted":18446744073709551615,"rows_error_count":0})", "7", "null"}) {
    EXPECT_FALSE(
        ParseStatusAnswer(std::string(R"({"channel_statuses":{"c":)") + status + "}}").has_value())
        << status;
  }
  for (const char* body : {"", "{}", "[]", "null", R"({"channel_statuses":[]})", "\xff"})
    EXPECT_FALSE(ParseStatusAnswer(body).has_value()) << body;
  EXPECT_FALSE(ParseOpenAnswer("{}").has_value());
}

TEST(StreamingAnswer, AnAppendMayBeRefusedWithHttp200) {
  StreamingError error;
  EXPECT_EQ(ParseAppendAnswer(R"({"next_continuation_token":"n"})", error), "n");
  EXPECT_EQ(ParseAppendAnswer(R"({"next_continuation_token":"n","status_code":0})", error), "n");
  EXPECT_EQ(ParseAppendAnswer(R"({"status_code":4,"message":"stale"})", error), std::nullopt);
  EXPECT_EQ(error.status_code, 4);
  EXPECT_EQ(ActionFor(error), StreamingAction::kReopen);
  EXPECT_EQ(ParseAppendAnswer("", error), std::nullopt);
  EXPECT_EQ(ParseAppendAnswer(R"({"next_continuation_token":""})", error), std::nullopt);
}

TEST(StreamingAnswer, EveryErrorShapeGivesItsCode) {
  EXPECT_EQ(ParseStreamingError(400, R"({"code":"A","message":"m"})").code, "A");
  EXPECT_EQ(ParseStreamingError(400, R"({"error_code":"A"})").code, "A");
  EXPECT_EQ(ParseStreamingError(400, "\"A_B\"").code, "A_B");
  EXPECT_EQ(ParseStreamingError(400, "A_B").code, "A_B");
  EXPECT_EQ(ParseStreamingError(400, R"({"code":390701})").code, "390701");
  const StreamingError html = ParseStreamingError(502, "<html>\nBad\x1b gateway</html>");
  EXPECT_EQ(html.code, "");
  EXPECT_EQ(html.Words().find('\x1b'), std::string::npos);
  EXPECT_EQ(ParseStreamingError(500, "").code, "");
}

TEST(StreamingAnswer, EveryErrorHasItsAction) {
  const std::pair<StreamingError, StreamingAction> cases[] = {
      {{.http = 400, .code = "STALE_CONTINUATION_TOKEN_SEQUENCER"}, StreamingAction::kReopen},
      {{.http = 400, .code = "ERR_CHANNEL_HAS_INVALID_ROW_SEQUENCER"}, StreamingAction::kReopen},
      {{.http = 409, .code = "ERR_CHANNEL_MUST_BE_REOPENED"}, StreamingAction::kReopen},
      {{.http = 409, .code = "ERR_CHANNEL_MUST_BE_REOPENED_DUE_TO_ROW_SEQ_GAP"},
       StreamingAction::kReopen},
      {{.http = 400, .code = "ERR_CHANNEL_HAS_INVALID_CLIENT_SEQUENCER"}, StreamingAction::kFenced},
      {{.http = 404, .code = "STALE_PIPE_CACHE"}, StreamingAction::kReopen},
      {{.http = 404, .code = "ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"},
       StreamingAction::kReopen},
      {{.http = 404, .code = "ERR_PIPE_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"},
       StreamingAction::kMissing},
      {{.http = 404, .code = "ERR_TABLE_DOES_NOT_EXIST_NOT_AUTHORIZED"}, StreamingAction::kMissing},
      {{.http = 409, .code = "ERR_CHANNEL_HAS_UNCOMMITTED_DATA"}, StreamingAction::kWait},
      {{.http = 409, .code = "ERR_OPEN_CHANNEL_IN_PROGRESS"}, StreamingAction::kWait},
      {{.http = 410}, StreamingAction::kRediscover},
      {{.http = 404}, StreamingAction::kRediscover},
      {{.http = 413}, StreamingAction::kTooLarge},
      {{.http = 403}, StreamingAction::kDenied},
      {{.http = 503, .code = "ERR_PIPE_IN_INVALID_STATE"}, StreamingAction::kMissing},
      {{.http = 400, .code = "ERR_GENERAL_EXCEPTION_RETRY_REQUEST"}, StreamingAction::kRetry},
      {{.http = 400, .message = "malformed row"}, StreamingAction::kRefused},
  };
  for (const auto& [error, action] : cases) EXPECT_EQ(ActionFor(error), action) << error.Words();
}

}  // namespace
}  // namespace etl

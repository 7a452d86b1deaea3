#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace etl {

/// A channel as the service sees it.
struct ChannelStatus {
  std::string code;                      ///< SUCCESS …
  std::optional<std::string> committed;  ///< last committed offset token; none: nothing yet
  int64_t created_on_ms = 0;
  int64_t rows_inserted = 0;
  int64_t rows_error_count = 0;  ///< over the channel's whole life
  std::string last_error_message;
  std::string last_error_token;  ///< the row in error is at or before it
  /// Whether rows sent to it would be kept.
  bool usable() const { return code == "SUCCESS" || code == "ACTIVE" || code == "0"; }
};

struct OpenAnswer {
  std::string continuation_token;
  ChannelStatus status;
};

/// What stands in a failure, in any of its shapes: `code` and `message`, `error_code`, a numeric
/// `status_code`, a bare JSON string, or plain text.
struct StreamingError {
  int http = 0;
  std::string code;  ///< ERR_…, STALE_…; empty if there is none
  std::optional<int64_t> status_code;
  std::string message;
  std::string Words() const;  ///< one line, for people
};

/// What to do about a failure that is not retried as it is.
enum class StreamingAction : uint8_t {
  kRetry,       ///< the same request again
  kReopen,      ///< the channel, or what we know of it, is stale: open it and resume
  kWait,        ///< it is busy with earlier rows or another open: the same again, later
  kFenced,      ///< somebody else opened the channel: stop
  kRediscover,  ///< ask for the host anew, then reopen
  kTooLarge,    ///< the request
  kDenied,      ///< rights
  kMissing,     ///< the pipe or table, or the right to see it
  kRefused,     ///< anything else: rows or parameters that should not have been sent
};
StreamingAction ActionFor(const StreamingError& error);

/// None of these throws or guesses: what is not understood is none.
std::optional<OpenAnswer> ParseOpenAnswer(std::string_view body);
/// The next continuation token. `error` is filled if a 200 carries a refusal.
std::optional<std::string> ParseAppendAnswer(std::string_view body, StreamingError& error);
/// By channel name; channels that do not exist are left out.
std::optional<std::map<std::string, ChannelStatus>> ParseStatusAnswer(std::string_view body);
StreamingError ParseStreamingError(int http, std::string_view body);

}  // namespace etl

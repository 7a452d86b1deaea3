#include "destination/snowflake/streaming_answer.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"

namespace etl {
namespace {

using Json = nlohmann::json;

constexpr size_t kWordsMax = 500;

// The value of the first of `names` that is there and not null.
const Json* Find(const Json& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto at = object.find(name);
    if (at != object.end() && !at->is_null()) return &*at;
  }
  return nullptr;
}

std::string TextOf(const Json& object, std::initializer_list<const char*> names) {
  const Json* value = Find(object, names);
  if (value == nullptr) return {};
  return value->is_string() ? value->get<std::string>() : value->dump();
}

// Numbers come as numbers; a string of digits is read too. Anything else is a mistake.
bool NumberOf(const Json& object, std::initializer_list<const char*> names, int64_t& out) {
  const Json* value = Find(object, names);
  if (value == nullptr) return true;
  if (value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX) return false;
  if (value->is_number_integer()) {
    out = value->get<int64_t>();
    return true;
  }
  if (!value->is_string()) return false;
  const std::string text = value->get<std::string>();
  if (text.empty() || text.size() > 18 ||
      !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  out = std::stoll(text);
  return true;
}

std::optional<ChannelStatus> ReadStatus(const Json& json) {
  if (!json.is_object()) return std::nullopt;
  ChannelStatus status;
  status.code = TextOf(json, {"channel_status_code", "status_code"});
  const std::string committed = TextOf(json, {"last_committed_offset_token"});
  if (!committed.empty()) status.committed = committed;
  status.last_error_message = TextOf(json, {"last_error_message"});
  status.last_error_token = TextOf(json, {"last_error_offset_upper_bound"});
  // Commits are proved by these: one that cannot be read is no proof.
  const bool read = NumberOf(json, {"created_on_ms"}, status.created_on_ms) &&
                    NumberOf(json, {"rows_inserted"}, status.rows_inserted) &&
                    NumberOf(json, {"rows_error_count", "rows_errors"}, status.rows_error_count);
  if (!read || Find(json, {"rows_inserted"}) == nullptr ||
      Find(json, {"rows_error_count", "rows_errors"}) == nullptr) {
    return std::nullopt;
  }
  return status;
}

bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::string StreamingError::Words() const {
  return fmt::format("HTTP {}{}{}{}{}", http, code.empty() ? "" : " ", EscapeControl(code),
                     message.empty() ? "" : ": ",
                     EscapeControl(std::string_view(message).substr(0, kWordsMax)));
}

StreamingAction ActionFor(const StreamingError& error) {
  const std::string_view code = error.code;
  if (Has(code, "PIPE_IN_INVALID_STATE")) return StreamingAction::kMissing;
  if (Has(code, "INVALID_CLIENT_SEQUENCER")) return StreamingAction::kFenced;
  if (Has(code, "HAS_UNCOMMITTED_DATA") || Has(code, "OPEN_CHANNEL_IN_PROGRESS"))
    return StreamingAction::kWait;
  if (Has(code, "STALE_CONTINUATION_TOKEN") || Has(code, "INVALID_ROW_SEQUENCER") ||
      Has(code, "MUST_BE_REOPENED") || Has(code, "STALE_PIPE_CACHE") ||
      (Has(code, "CHANNEL_DOES_NOT_EXIST") || Has(code, "CHANNEL_IS_NOT_"))) {
    return StreamingAction::kReopen;
  }
  if (Has(code, "PIPE_DOES_NOT_EXIST") || Has(code, "TABLE_DOES_NOT_EXIST") ||
      Has(code, "SCHEMA_DOES_NOT_EXIST") || Has(code, "DATABASE_DOES_NOT_EXIST"))
    return StreamingAction::kMissing;
  if (Has(code, "RETRY_REQUEST") || Has(code, "NOT_LOCALLY_OWNED")) return StreamingAction::kRetry;
  switch (error.http) {
    case 403: return StreamingAction::kDenied;
    case 404:
    case 410:
    case 421: return StreamingAction::kRediscover;
    case 409: return StreamingAction::kReopen;
    case 413: return StreamingAction::kTooLarge;
    default: break;
  }
  if (error.status_code == 4) return StreamingAction::kReopen;
  if (error.status_code == 1 || error.status_code == 5 || error.status_code == 6)
    return StreamingAction::kRetry;
  return error.http >= 500 ? StreamingAction::kRetry : StreamingAction::kRefused;
}

std::optional<OpenAnswer> ParseOpenAnswer(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const Json* status = Find(json, {"channel_status"});
  if (status == nullptr) return std::nullopt;
  std::optional<ChannelStatus> read = ReadStatus(*status);
  if (!read.has_value()) return std::nullopt;
  return OpenAnswer{.continuation_token = TextOf(json, {"next_continuation_token"}),
                    .status = std::move(*read)};
}

std::optional<std::string> ParseAppendAnswer(std::string_view body, StreamingError& error) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  int64_t code = 0;
  if (!NumberOf(json, {"status_code"}, code)) return std::nullopt;
  std::string token = TextOf(json, {"next_continuation_token"});
  if (code == 0 && !token.empty()) return token;
  error = ParseStreamingError(200, body);
  return std::nullopt;
}

std::optional<std::map<std::string, ChannelStatus>> ParseStatusAnswer(std::string_view body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object()) return std::nullopt;
  const Json* statuses = Find(json, {"channel_statuses"});
  if (statuses == nullptr || !statuses->is_object()) return std::nullopt;
  std::map<std::string, ChannelStatus> out;
  for (const auto& [name, value] : statuses->items()) {
    std::optional<ChannelStatus> status = ReadStatus(value);
    if (!status.has_value()) return std::nullopt;
    out.emplace(name, std::move(*status));
  }
  return out;
}

StreamingError ParseStreamingError(int http, std::string_view body) {
  StreamingError error{.http = http};
  const Json json = Json::parse(body, nullptr, false);
  if (json.is_string()) {
    error.code = json.get<std::string>();
  } else if (json.is_object()) {
    error.code = TextOf(json, {"code", "error_code"});
    error.message = TextOf(json, {"message"});
    int64_t status_code = 0;
    if (Find(json, {"status_code"}) != nullptr && NumberOf(json, {"status_code"}, status_code))
      error.status_code = status_code;
  } else {
    error.message = std::string(body.substr(0, kWordsMax));
    const bool word =
        !body.empty() && body.size() < 100 && std::all_of(body.begin(), body.end(), [](char c) {
          return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        });
    if (word) error.code = std::exchange(error.message, {});
  }
  return error;
}

}  // namespace etl

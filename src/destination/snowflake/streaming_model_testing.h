#pragma once

#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "destination/snowflake/service_testing.h"

namespace etl {

/// A Snowpipe Streaming that behaves, for tests: channels with sequencers, rows that are buffered
/// and committed later, and faults. A row is one line of a body; it is kept as it is. Rows that say
/// `bad` are rejected while the token goes on.
class StreamingModel {
 public:
  struct Buffered {
    std::vector<std::string> rows;
    std::string last;
    Instant commit_at;
  };
  struct Channel {
    int64_t created_on_ms = 0;
    int owner = 0;    ///< client sequencer
    int appends = 0;  ///< row sequencer
    std::string committed;
    int64_t inserted = 0;
    int64_t errors = 0;
    std::deque<Buffered> buffered;
    std::string last_continuation;  ///< of the last append that was taken, and what it was answered
    std::string last_answer;
  };
  struct Faults {
    uint64_t refuse_one_in = 0;  ///< before anything was done: 503, 429, 500 or no connection
    uint64_t lose_one_in = 0;    ///< carried out, and the answer lost
    uint64_t token_one_in = 0;   ///< the token is revoked: 401 to it from then on
    bool idempotent = false;     ///< a repeated append is answered as the first one was
    Duration commit_lag = std::chrono::seconds(3);
  };

  StreamingModel(const TestClock& clock, uint64_t seed) : clock_(clock), random_(seed) {}

  ScriptedHttpClient::Reply Handle(const HttpRequest& request) {
    Commit();
    const auto answer = [](int code, const std::string& body) {
      return ScriptedHttpClient::Answer(code, body, {{"x-snowflake-session", "s"}});
    };
    requests.push_back(request.url);
    if (request.url.find("/v2/streaming/hostname") != std::string::npos)
      return answer(host_code, host + "\n");
    if (Revoked(std::string(request.bearer->Reveal()))) return answer(401, "");
    if (faults.refuse_one_in != 0 && random_.OneIn(faults.refuse_one_in)) return Refusal();
    ScriptedHttpClient::Reply reply = CarryOut(request, answer);
    if (faults.lose_one_in != 0 && random_.OneIn(faults.lose_one_in)) {
      return random_.OneIn(2) ? ScriptedHttpClient::Never()
                              : ScriptedHttpClient::Fail(HttpFailure::kBroken);
    }
    reply.after = std::chrono::milliseconds(random_.Below(30));
    return reply;
  }

  void Commit() {
    for (auto& [name, channel] : channels) {
      while (!channel.buffered.empty() && channel.buffered.front().commit_at <= clock_.now) {
        for (std::string& row : channel.buffered.front().rows) {
          if (row.find("bad") != std::string::npos) {
            ++channel.errors;
          } else {
            ++channel.inserted;
            table[name].push_back(std::move(row));
          }
        }
        channel.committed = channel.buffered.front().last;
        channel.buffered.pop_front();
      }
    }
  }

  std::map<std::string, Channel> channels;
  std::map<std::string, std::vector<std::string>> table;  ///< rows by channel, as committed
  std::vector<std::string> requests;
  Faults faults;
  std::string host = "ingest.a.snowflakecomputing.com";
  int host_code = 200;
  std::deque<std::pair<int, std::string>> open_answers;    ///< instead, once each
  std::deque<std::pair<int, std::string>> append_answers;  ///< instead, once each

 private:
  template <typename AnswerFunction>
  ScriptedHttpClient::Reply CarryOut(const HttpRequest& request, AnswerFunction answer) {
    if (request.url.find(":bulk-channel-status") != std::string::npos)
      return answer(200, Statuses(std::string(request.body.bytes)));
    const size_t at = request.url.find("/channels/") + 10;
    const std::string name = request.url.substr(at, request.url.find_first_of("/?", at) - at);
    if (request.method == HttpMethod::kPut) {
      if (!open_answers.empty()) return Scripted(open_answers, answer);
      return Open(name, answer);
    }
    if (request.method == HttpMethod::kDelete) {
      const bool known = channels.erase(name) > 0;
      return answer(known ? 200 : 404, "{}");
    }
    if (!append_answers.empty()) return Scripted(append_answers, answer);
    return Append(name, request, answer);
  }

  template <typename AnswerFunction>
  ScriptedHttpClient::Reply Scripted(std::deque<std::pair<int, std::string>>& answers,
                                     AnswerFunction answer) {
    const auto [code, body] = answers.front();
    answers.pop_front();
    return answer(code, body);
  }

  template <typename AnswerFunction>
  ScriptedHttpClient::Reply Open(const std::string& name, AnswerFunction answer) {
    auto [at, fresh] = channels.try_emplace(name);
    Channel& channel = at->second;
    if (fresh) channel.created_on_ms = ++created_;
    if (!channel.buffered.empty())
      return answer(409, R"({"code":"ERR_CHANNEL_HAS_UNCOMMITTED_DATA","message":"wait"})");
    ++channel.owner;
    channel.appends = 0;
    channel.last_continuation.clear();
    return answer(200, R"({"next_continuation_token":")" + TokenOf(channel) +
                           R"(","channel_status":)" + StatusOf(channel) + "}");
  }

  template <typename AnswerFunction>
  ScriptedHttpClient::Reply Append(const std::string& name, const HttpRequest& request,
                                   AnswerFunction answer) {
    const auto at = channels.find(name);
    if (at == channels.end())
      return answer(404, R"({"code":"ERR_CHANNEL_DOES_NOT_EXIST_OR_NOT_AUTHORIZED"})");
    Channel& channel = at->second;
    const std::string continuation = Parameter(request.url, "continuationToken");
    if (continuation != TokenOf(channel)) {
      if (faults.idempotent && continuation == channel.last_continuation && !continuation.empty())
        return answer(200, channel.last_answer);
      return answer(400, R"({"code":"STALE_CONTINUATION_TOKEN_SEQUENCER","message":"stale"})");
    }
    Buffered rows{.rows = {},
                  .last = Parameter(request.url, "endOffsetToken"),
                  .commit_at = clock_.now + faults.commit_lag};
    std::string_view body = request.body.bytes;
    for (size_t end; (end = body.find('\n')) != std::string_view::npos; body.remove_prefix(end + 1))
      rows.rows.emplace_back(body.substr(0, end));
    channel.buffered.push_back(std::move(rows));
    ++channel.appends;
    channel.last_continuation = continuation;
    channel.last_answer = R"({"next_continuation_token":")" + TokenOf(channel) + "\"}";
    return answer(200, channel.last_answer);
  }

  // One token at a time: a service that takes none is another test's.
  bool Revoked(const std::string& token) {
    if (faults.token_one_in != 0 && clock_.now >= revoke_after_ &&
        random_.OneIn(faults.token_one_in)) {
      revoked_.insert(token);
      revoke_after_ = clock_.now + std::chrono::seconds(30);
    }
    return revoked_.contains(token);
  }

  ScriptedHttpClient::Reply Refusal() {
    switch (random_.Below(4)) {
      case 0: return ScriptedHttpClient::Answer(503, "\"ERR_GENERAL_EXCEPTION_RETRY_REQUEST\"");
      case 1: return ScriptedHttpClient::Answer(429, "", {{"retry-after", "1"}});
      case 2: return ScriptedHttpClient::Answer(500, "<html>");
      default: return ScriptedHttpClient::Fail(HttpFailure::kUnreachable);
    }
  }

  std::string Statuses(const std::string& body) const {
    std::string out;
    for (const auto& [name, channel] : channels) {
      if (body.find("\"" + name + "\"") == std::string::npos) continue;
      out += (out.empty() ? "\"" : ",\"") + name + "\":" + StatusOf(channel);
    }
    return R"({"channel_statuses":{)" + out + "}}";
  }
  static std::string StatusOf(const Channel& channel) {
    return R"({"channel_status_code":"SUCCESS","last_committed_offset_token":)" +
           (channel.committed.empty() ? "null" : "\"" + channel.committed + "\"") +
           R"(,"created_on_ms":)" + std::to_string(channel.created_on_ms) + R"(,"rows_inserted":)" +
           std::to_string(channel.inserted) + R"(,"rows_error_count":)" +
           std::to_string(channel.errors) +
           R"(,"last_error_message":"bad row","last_error_offset_upper_bound":"x"})";
  }
  static std::string TokenOf(const Channel& channel) {
    return std::to_string(channel.owner) + "." + std::to_string(channel.appends);
  }
  static std::string Parameter(const std::string& url, const std::string& name) {
    const size_t at = url.find(name + "=");
    if (at == std::string::npos) return {};
    const size_t from = at + name.size() + 1;
    return url.substr(from, url.find('&', from) - from);
  }

  const TestClock& clock_;
  Random random_;
  int64_t created_ = 1000;
  std::set<std::string> revoked_;
  Instant revoke_after_{};
};

}  // namespace etl

// A Snowflake that checks what it is sent and keeps nothing of it, for measurements: the calls of
// Snowpipe Streaming, and the statements of a pipeline in append mode. The emulator of the tests
// knows what Snowflake refuses; this one only has to be faster than the engine.
//
//   snowflake_sink lag_ms=50          prints {"url": …} and serves until standard input ends
//
// Checked of each append: the chain of continuation tokens, the growing offsets, that both are
// those of its first and its last row, the announced length, 4 MB. Refused: more than ten requests
// a second on a channel. A failed check is an error of its request, and of /bench/report.
//
//   POST /bench/forget                  all bookkeeping rows and channels
//   POST /bench/save, /bench/restore    the bookkeeping rows and the channels, as they are now
//   POST /bench/clear                   begins to measure anew
//   GET  /bench/report                  by channel: rows, requests, bytes, the most in any second;
//                                       of each append: its last offset and when it came
#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include <httplib.h>
#include <unistd.h>
#include <zstd.h>
#include <nlohmann/json.hpp>

#include "bench_tool.h"

namespace etl::bench {
namespace {

using Json = nlohmann::json;

constexpr size_t kBodyMax = 4'000'000;
constexpr size_t kRequestsMax = 10;
constexpr std::string_view kChannels = "/channels/";
constexpr std::string_view kRows = "/rows";

/// What came in the last second, and the most that ever did.
class Rate {
 public:
  void Add(double now, double amount) {
    Forget(now);
    recent_.emplace_back(now, amount);
    sum_ += amount;
    most_ = std::max(most_, sum_);
  }
  size_t count(double now) {
    Forget(now);
    return recent_.size();
  }
  double most() const { return most_; }

 private:
  void Forget(double now) {
    for (; !recent_.empty() && recent_.front().first <= now - 1; recent_.pop_front())
      sum_ -= recent_.front().second;
  }
  std::deque<std::pair<double, double>> recent_;
  double sum_ = 0;
  double most_ = 0;
};

struct Pending {
  double at = 0;
  std::string token;
  int64_t rows = 0;
};

struct Channel {
  uint64_t continuation = 0;
  std::string accepted;
  std::string committed;
  int64_t rows_inserted = 0;
  std::deque<Pending> pending;
};

struct Measured {
  int64_t rows = 0;
  int64_t requests = 0;
  int64_t bytes = 0;
  int64_t uncompressed = 0;
  Rate requests_rate;
  Rate bytes_rate;
};

struct Stored {
  std::map<std::string, Channel> channels;
  std::vector<Json> progress;
};

/// What one body holds.
struct Lines {
  std::string first;
  std::string last;
  int64_t rows = 0;
  size_t bytes = 0;
};

std::string PositionIn(std::string_view line, std::string_view key) {
  const size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  const std::string_view rest = line.substr(at + key.size());
  return std::string(rest.substr(0, rest.find_first_of("\",}")));
}

/// The text of a body, which lives until this thread is asked again; none if it does not have the
/// size that was announced.
std::optional<std::string_view> TextOf(const std::string& body, const std::string& encoding,
                                       const std::string& announced) {
  if (encoding.empty()) return body;
  constexpr size_t kTextMax = 64 << 20;
  const size_t size = std::strtoull(announced.c_str(), nullptr, 10);
  if (encoding != "zstd" || size == 0 || size > kTextMax) return std::nullopt;
  thread_local ZSTD_DCtx* const context = ZSTD_createDCtx();
  thread_local std::string text;
  if (text.size() < size) text.resize(size);
  if (ZSTD_decompressDCtx(context, text.data(), size, body.data(), body.size()) != size)
    return std::nullopt;
  return std::string_view(text).substr(0, size);
}

Lines Count(std::string_view text) {
  constexpr std::string_view kPosition = "\"_ETL_POSITION\":\"";
  Lines lines{.bytes = text.size()};
  if (text.empty() || text.back() != '\n') return lines;
  lines.rows = std::count(text.begin(), text.end(), '\n');
  lines.first = PositionIn(text.substr(0, text.find('\n')), kPosition);
  text.remove_suffix(1);
  const size_t before = text.rfind('\n');
  lines.last =
      PositionIn(before == std::string_view::npos ? text : text.substr(before + 1), kPosition);
  return lines;
}

std::string Base64Url(std::string_view text) {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  uint32_t bits = 0;
  int held = 0;
  for (const char c : text) {
    bits = bits << 8 | static_cast<uint8_t>(c);
    for (held += 8; held >= 6; held -= 6) out += kLetters[bits >> (held - 6) & 63];
  }
  if (held > 0) out += kLetters[bits << (6 - held) & 63];
  return out;
}

class Sink {
 public:
  explicit Sink(double lag) : lag_(lag) {
    server_.new_task_queue = [] { return new httplib::ThreadPool(64); };
    server_.set_keep_alive_max_count(size_t{1} << 40);
    server_.set_keep_alive_timeout(3600);
    server_.set_tcp_nodelay(true);
    const auto on = [this](void (Sink::*answer)(const Request&, Response&)) {
      return [this, answer](const Request& request, Response& response) {
        (this->*answer)(request, response);
      };
    };
    server_.Get("/v2/streaming/hostname", [](const Request&, Response& response) {
      response.set_content("127.0.0.1", "text/plain");
    });
    server_.Post("/oauth/token", [](const Request&, Response& response) {
      const auto now = static_cast<int64_t>(std::time(nullptr));
      response.set_content(Base64Url(R"({"alg":"none"})") + "." +
                               Base64Url(Json{{"iat", now}, {"exp", now + 3600}}.dump()) + "." +
                               Base64Url("none"),
                           "text/plain");
    });
    server_.Put(R"(/v2/streaming/.*/channels/.*)", on(&Sink::Open));
    server_.Delete(R"(/v2/streaming/.*/channels/.*)", on(&Sink::Drop));
    server_.Post(R"(/v2/streaming/data/.*/rows)", on(&Sink::Append));
    server_.Post(R"(/v2/streaming/.*:bulk-channel-status)", on(&Sink::Status));
    server_.Post("/api/v2/statements", on(&Sink::Statement));
    server_.Post("/bench/forget", on(&Sink::Forget));
    server_.Post("/bench/save", on(&Sink::Save));
    server_.Post("/bench/restore", on(&Sink::Restore));
    server_.Post("/bench/clear", on(&Sink::Clear));
    server_.Get("/bench/report", on(&Sink::Report));
  }

  int Serve() {
    const int port = server_.bind_to_any_port("127.0.0.1");
    if (port <= 0) Die("snowflake_sink: no port");
    std::printf("{\"url\": \"http://127.0.0.1:%d\"}\n", port);
    std::fflush(stdout);
    std::thread until_end([this] {
      char byte = 0;
      while (read(STDIN_FILENO, &byte, 1) > 0) {
      }
      server_.stop();
    });
    server_.listen_after_bind();
    until_end.join();
    return 0;
  }

 private:
  using Request = httplib::Request;
  using Response = httplib::Response;

  static void Answer(Response& response, const Json& json) {
    response.set_content(json.dump(), "application/json");
  }
  void Refuse(Response& response, int status, const std::string& code, const std::string& what) {
    response.status = status;
    Answer(response, {{"code", code}, {"message", what}});
    faults_.push_back(what);
  }

  /// Database, schema, pipe and channel as one text: the end of the decoded path.
  static std::string NameOf(const std::string& path) {
    const size_t at = path.find("/databases/");
    return path.substr(at == std::string::npos ? 0 : at);
  }
  void Commit(Channel& channel, double now) {
    while (!channel.pending.empty() && channel.pending.front().at <= now) {
      channel.committed = channel.pending.front().token;
      channel.rows_inserted += channel.pending.front().rows;
      channel.pending.pop_front();
    }
  }
  static Json StatusOf(const Channel& channel) {
    Json committed;
    if (!channel.committed.empty()) committed = channel.committed;
    return {{"channel_status_code", "SUCCESS"},
            {"last_committed_offset_token", std::move(committed)},
            {"created_on_ms", 1},
            {"rows_inserted", channel.rows_inserted},
            {"rows_error_count", 0}};
  }

  void Open(const Request& request, Response& response) {
    const std::lock_guard lock(mutex_);
    Channel& channel = stored_.channels[NameOf(request.path)];
    // As if it had waited for them.
    Commit(channel, 1e18);
    channel.accepted = channel.committed;
    Answer(response, {{"next_continuation_token", std::to_string(++channel.continuation)},
                      {"channel_status", StatusOf(channel)}});
  }
  void Drop(const Request& request, Response& response) {
    const std::lock_guard lock(mutex_);
    stored_.channels.erase(NameOf(request.path));
    Answer(response, Json::object());
  }

  void Append(const Request& request, Response& response) {
    const double now = WallSeconds();
    const std::string announced =
        request.get_header_value("x-snowflake-uncompressed-content-length");
    const std::optional<std::string_view> text =
        TextOf(request.body, request.get_header_value("Content-Encoding"), announced);
    std::string name = NameOf(request.path);
    name.resize(name.size() - kRows.size());
    const bool progress = name.find("/pipes/_ETL_PROGRESS-STREAMING/") != std::string::npos;
    Lines lines;
    if (text.has_value()) lines = Count(*text);
    const std::string first = request.get_param_value("startOffsetToken");
    const std::string last = request.get_param_value("endOffsetToken");

    const std::lock_guard lock(mutex_);
    Channel& channel = stored_.channels[name];
    Measured& measured = measured_[name];
    if (measured.requests_rate.count(now) >= kRequestsMax)
      return Refuse(response, 429, "TOO_MANY_REQUESTS", "too many requests: " + name);
    if (request.get_param_value("continuationToken") != std::to_string(channel.continuation))
      return Refuse(response, 400, "STALE_CONTINUATION_TOKEN_SEQUENCER", "not the next: " + name);
    if (request.body.size() > kBodyMax || lines.rows == 0 || first <= channel.accepted ||
        last < first || (!announced.empty() && announced != std::to_string(lines.bytes)) ||
        (!progress && (lines.first != first || lines.last != last)))
      return Refuse(response, 400, "ERR_BAD_REQUEST", "a bad append: " + name);
    channel.accepted = last;
    channel.pending.push_back({now + lag_, last, lines.rows});
    if (progress) Keep(*text);
    measured.rows += lines.rows;
    ++measured.requests;
    measured.bytes += static_cast<int64_t>(request.body.size());
    measured.uncompressed += static_cast<int64_t>(lines.bytes);
    measured.requests_rate.Add(now, 1);
    measured.bytes_rate.Add(now, static_cast<double>(lines.bytes));
    if (!progress) appends_.emplace_back(last, now);
    Answer(response, {{"next_continuation_token", std::to_string(++channel.continuation)}});
  }
  void Keep(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      const size_t end = text.find('\n', at);
      stored_.progress.push_back(Json::parse(text.substr(at, end - at)));
      at = end + 1;
    }
  }

  void Status(const Request& request, Response& response) {
    const double now = WallSeconds();
    std::string pipe = NameOf(request.path);
    pipe.resize(pipe.rfind(':'));
    const Json body = Json::parse(request.body);
    Json statuses = Json::object();
    const std::lock_guard lock(mutex_);
    for (const std::string name : body.at("channel_names")) {
      const auto at = stored_.channels.find(pipe + std::string(kChannels) + name);
      if (at == stored_.channels.end()) continue;
      Commit(at->second, now);
      statuses[name] = StatusOf(at->second);
    }
    Answer(response, {{"channel_statuses", std::move(statuses)}});
  }

  void Statement(const Request& request, Response& response) {
    const std::string sql = Json::parse(request.body).at("statement");
    Json data = Json::array();
    const std::lock_guard lock(mutex_);
    if (sql.starts_with("SELECT \"SEQUENCE\"")) {
      for (const Json& row : stored_.progress) {
        Json values = Json::array();
        for (const char* column :
             {"SEQUENCE", "HISTORY", "KIND", "TABLE_OID", "GENERATION", "LSN", "BODY"}) {
          const Json& value = row.at(column);
          values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
        }
        data.push_back(std::move(values));
      }
    }
    Answer(response, {{"code", "090001"},
                      {"sqlState", "00000"},
                      {"message", "done"},
                      {"statementHandle", "01b00000-0000-0000-0000-000000000000"},
                      {"resultSetMetaData",
                       {{"numRows", data.size()},
                        {"rowType", Json::array()},
                        {"partitionInfo", Json::array({{{"rowCount", data.size()}}})}}},
                      {"data", std::move(data)}});
  }

  void Forget(const Request&, Response& response) {
    const std::lock_guard lock(mutex_);
    stored_ = {};
    Answer(response, Json::object());
  }
  void Save(const Request&, Response& response) {
    const std::lock_guard lock(mutex_);
    saved_ = stored_;
    Answer(response, Json::object());
  }
  void Restore(const Request&, Response& response) {
    const std::lock_guard lock(mutex_);
    stored_ = saved_;
    Answer(response, Json::object());
  }
  void Clear(const Request&, Response& response) {
    const std::lock_guard lock(mutex_);
    measured_.clear();
    appends_.clear();
    faults_.clear();
    Answer(response, Json::object());
  }
  void Report(const Request&, Response& response) {
    const std::lock_guard lock(mutex_);
    Json channels = Json::object();
    for (const auto& [name, measured] : measured_) {
      channels[name] = {{"rows", measured.rows},
                        {"requests", measured.requests},
                        {"bytes", measured.bytes},
                        {"uncompressed", measured.uncompressed},
                        {"requests_in_a_second", measured.requests_rate.most()},
                        {"uncompressed_in_a_second", measured.bytes_rate.most()}};
    }
    Answer(response, {{"channels", channels}, {"appends", appends_}, {"faults", faults_}});
  }

  const double lag_;
  httplib::Server server_;
  std::mutex mutex_;  // of everything below
  Stored stored_;
  Stored saved_;
  std::map<std::string, Measured> measured_;
  std::vector<std::pair<std::string, double>> appends_;
  std::vector<std::string> faults_;
};

}  // namespace
}  // namespace etl::bench

int main(int count, char** values) {
  const etl::bench::Arguments arguments(count, values);
  etl::bench::Sink sink(static_cast<double>(arguments.Number("lag_ms", 50)) / 1000);
  return sink.Serve();
}

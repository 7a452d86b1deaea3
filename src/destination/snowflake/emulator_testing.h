#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "config/config.h"
#include "net/curl_http_client.h"
#include "net/key_testing.h"

namespace etl {

/// The emulator of tests/emulator in a process of its own, with one user whose key is TestKey().
/// Needs ETL_PYTHON and ETL_SOURCE_DIR, as tools/run_tests sets them.
class EmulatorProcess {
 public:
  using Json = nlohmann::json;

  enum class Tls : uint8_t { kNo, kToo };
  explicit EmulatorProcess(const Json& settings = Json::object(), Tls tls_too = Tls::kNo) {
    const char* python = std::getenv("ETL_PYTHON");
    const char* source = std::getenv("ETL_SOURCE_DIR");
    ETL_CHECK(python != nullptr && source != nullptr);
    WriteText(folder_ / "setup.json", Json{{"roles", {{"ETL_ROLE", {{"open", true}}}}},
                                           {"warehouses", {"ETL_WH"}},
                                           {"schemas", Json::array({Json::array({"DB", "S"})})},
                                           {"users",
                                            {{"ETL_USER",
                                              {{"rsa_public_key", TestKey()->public_key()},
                                               {"default_role", "ETL_ROLE"},
                                               {"roles", {"ETL_ROLE"}}}}}},
                                           {"settings", settings}}
                                          .dump());
    const std::string setup = folder_ / "setup.json", state = folder_ / "state.json";
    const std::string place = std::string(source) + "/tests/emulator";
    const bool tls = tls_too == Tls::kToo;
    int input[2];
    ETL_CHECK(pipe(input) == 0);
    process_ = fork();
    ETL_CHECK(process_ >= 0);
    if (process_ == 0) {
      dup2(input[0], STDIN_FILENO);
      close(input[0]);
      close(input[1]);
      if (chdir(place.c_str()) != 0) _exit(127);
      const char* words[] = {python,
                             "-m",
                             "snowflake_emulator",
                             "--port",
                             "0",
                             "--setup",
                             setup.c_str(),
                             "--state-file",
                             state.c_str(),
                             "--control-token",
                             "control",
                             tls ? "--tls-port" : nullptr,
                             "0",
                             nullptr};
      execv(python, const_cast<char* const*>(words));
      _exit(127);
    }
    close(input[0]);
    input_ = input[1];
    for (int i = 0; i < 600 && url_.empty(); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      const std::string text = ReadText(state);
      if (!text.empty()) {
        ready_ = Json::parse(text);
        url_ = ready_.at("url");
      }
    }
    ETL_CHECK(!url_.empty());
  }
  ~EmulatorProcess() {
    close(input_);
    kill(process_, SIGTERM);
    waitpid(process_, nullptr, 0);
  }
  EmulatorProcess(const EmulatorProcess&) = delete;
  EmulatorProcess& operator=(const EmulatorProcess&) = delete;

  const std::string& url() const { return url_; }
  /// With Tls::kToo.
  std::string tls_url() const { return ready_.at("tls_url"); }
  std::string ca_file() const { return ready_.at("ca_file"); }

  SnowflakeConfig Config() const {
    SnowflakeConfig config;
    config.account = "TESTORG-TESTACCOUNT";
    config.url = url_;
    config.user = "ETL_USER";
    config.role = "ETL_ROLE";
    config.warehouse = "ETL_WH";
    config.database = "DB";
    config.schema = "S";
    config.landing_schema = "ETL";
    return config;
  }

  /// `verb` of /_control, as its README says. Any thread.
  Json Control(const std::string& verb, const std::optional<Json>& body) {
    return Answer(verb, Ask(verb, body));
  }
  void ClearFaults() { Answer("faults", Ask(HttpMethod::kDelete, "faults", std::nullopt)); }
  /// Rows of a table as objects.
  Json Rows(const std::string& schema, const std::string& table, const std::string& order) {
    return Control("rows/DB/" + schema + "/" + table + "?order=" + order, std::nullopt).at("rows");
  }
  /// The same in any order; null if there is no such table. Names are as Snowflake keeps them.
  Json RowsIfThere(const std::string& schema, const std::string& table) {
    const HttpResponse got =
        Ask(HttpMethod::kGet, "rows/DB/" + Encoded(schema) + "/" + Encoded(table), std::nullopt);
    if (got.code == 400) return nullptr;
    return Answer(table, got).at("rows");
  }
  /// SIGSTOP makes it an account that takes connections and says nothing, until SIGCONT.
  void Signal(int number) const { kill(process_, number); }
  /// Statements as ACCOUNTADMIN; the rows of the last one.
  Json Sql(const std::string& statement) {
    return Control("sql", Json{{"statement", statement}}).at("rows");
  }
  /// The same, where a refusal is an answer, too.
  HttpResponse Ask(const std::string& verb, const std::optional<Json>& body) {
    return Ask(body.has_value() ? HttpMethod::kPost : HttpMethod::kGet, verb, body);
  }

 private:
  static std::string Encoded(const std::string& name) {
    static const char* const kDigits = "0123456789ABCDEF";
    std::string out;
    for (const char c : name) {
      const auto byte = static_cast<unsigned char>(c);
      out += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
    }
    return out;
  }
  HttpResponse Ask(HttpMethod method, const std::string& verb, const std::optional<Json>& body) {
    CurlHttpClient http({});
    HttpRequest request;
    request.url = url_ + "/_control/" + verb;
    request.bearer = std::make_shared<const Secret>("control");
    request.method = method;
    if (body.has_value()) {
      request.headers = {{"Content-Type", "application/json"}};
      request.body = HttpBody::Of(body->dump());
    }
    http.Submit(std::move(request), SystemClock().Now());
    std::vector<HttpResponse> finished;
    while (finished.empty()) {
      http.Poll(SystemClock().Now(), finished);
      if (finished.empty()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return std::move(finished[0]);
  }
  static Json Answer(const std::string& verb, const HttpResponse& got) {
    if (got.code == 200) return Json::parse(got.body);
    ADD_FAILURE() << verb << ": " << got.body;
    return {{"rows", Json::array()}};
  }

  ScratchFolder folder_;
  pid_t process_ = -1;
  int input_ = -1;
  Json ready_;
  std::string url_;
};

inline std::vector<EmulatorProcess::Json> TasksOf(EmulatorProcess& emulator) {
  return emulator.Control("state", std::nullopt).at("tasks");
}

/// Runs tasks all the time, and their texts beside them, as runs that begin late would be.
class TaskRunner {
 public:
  using Json = EmulatorProcess::Json;
  explicit TaskRunner(EmulatorProcess& emulator) : emulator_(emulator) {
    thread_ = std::thread([this] {
      while (!stop_) {
        for (const Json& task : TasksOf(emulator_)) {
          if (task.at("state") == "started")
            emulator_.Ask("tasks", Json{{"task", task.at("path")}});
          texts_.push_back(task.at("definition"));
        }
        if (texts_.size() > 8) texts_.pop_front();
        for (const std::string& text : texts_) emulator_.Ask("sql", Json{{"statement", text}});
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
    });
  }
  ~TaskRunner() {
    stop_ = true;
    thread_.join();
  }
  TaskRunner(const TaskRunner&) = delete;
  TaskRunner& operator=(const TaskRunner&) = delete;

 private:
  EmulatorProcess& emulator_;
  std::atomic<bool> stop_ = false;
  std::deque<std::string> texts_;
  std::thread thread_;
};

}  // namespace etl

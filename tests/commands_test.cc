// Commands beside a running service, against a real server.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/pg_server.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

std::string Slurp(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

class Commands : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto server = PgServer::Start();
    ASSERT_TRUE(server.ok()) << server.status().ToString();
    server_ = std::move(*server).release();
  }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    std::string pattern = testing::TempDir() + "commandsXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    // Each test has a database of its own, so that none sees another's changes.
    static int count = 0;
    database_ = "d" + std::to_string(++count);
    ASSERT_TRUE(server_->Exec("CREATE DATABASE " + database_).ok());
  }
  void TearDown() override {
    for (const pid_t child : children_) {
      kill(child, SIGKILL);
      waitpid(child, nullptr, 0);
    }
    std::filesystem::remove_all(folder_);
  }

  void Write(const std::string& more = "") const {
    std::ofstream(folder_ + "/etl-stream.yaml")
        << "sources: {s: {type: postgres, url: \"" << server_->ConnInfo(database_) << "\"}}\n"
        << "destinations: {d: {type: duckdb, path: x.duckdb, release: 200ms}}\n"
        << "pipelines:\n  shop:\n    source: s\n    destination: d\n    tables: [\"public.*\"]\n"
        << "    slot: " << database_ << "_slot\n"
        << more;
  }

  void Sql(const std::string& sql) const {
    const std::string command = "psql -qXAt -v ON_ERROR_STOP=1 \"" + server_->ConnInfo(database_) +
                                "\" -f " + folder_ + "/.sql";
    std::ofstream(folder_ + "/.sql") << sql;
    ASSERT_EQ(std::system((command + " >" + folder_ + "/.sqlout 2>&1").c_str()), 0)
        << Slurp(folder_ + "/.sqlout");
  }

  pid_t Start(const std::vector<std::string>& words, const std::string& name) {
    const pid_t child = fork();
    if (child == 0) {
      const int input = open("/dev/null", O_RDONLY);
      const int output =
          open((folder_ + "/" + name + ".out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int errors =
          open((folder_ + "/" + name + ".err").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      if (chdir(folder_.c_str()) != 0) _exit(126);
      dup2(input, 0);
      dup2(output, 1);
      dup2(errors, 2);
      unsetenv("ETL_STREAM_CONFIG");
      std::vector<char*> argv{const_cast<char*>("etl-stream")};
      for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
      argv.push_back(nullptr);
      execv(ETL_STREAM_BINARY, argv.data());
      _exit(127);
    }
    children_.push_back(child);
    return child;
  }
  Outcome Finish(pid_t child, const std::string& name) {
    std::erase(children_, child);
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Slurp(folder_ + "/" + name + ".out"),
            Slurp(folder_ + "/" + name + ".err")};
  }
  Outcome Run(const std::vector<std::string>& words) {
    return Finish(Start(words, "command"), "command");
  }
  Outcome End(pid_t child, const std::string& name) {
    kill(child, SIGINT);
    return Finish(child, name);
  }
  bool Eventually(const std::function<bool()>& done) const {
    for (int i = 0; i < 600; ++i) {
      if (done()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    return false;
  }
  // `run`, once its tables are live.
  pid_t StartRunner() {
    const pid_t runner = Start({"run"}, "run");
    EXPECT_TRUE(Eventually([&] {
      const Json status = Json::parse(Run({"status", "--json"}).out, nullptr, false);
      if (status.is_discarded() || status["pipelines"][0]["phase"] != "running") return false;
      const Json& tables = status["pipelines"][0]["tables"];
      return !tables.empty() && tables[0]["phase"] == "live";
    })) << Slurp(folder_ + "/run.err");
    return runner;
  }

  static PgServer* server_;
  std::string database_;
  std::string folder_;
  std::vector<pid_t> children_;
};
PgServer* Commands::server_ = nullptr;

TEST_F(Commands, QueryAndCheckOnTheCopyThatSyncMade) {
  Sql("CREATE TABLE t (id int PRIMARY KEY, name text, n numeric(10,2), ok bool, j jsonb);"
      "INSERT INTO t VALUES (1, 'a', 1.50, true, '{\"k\": [1]}'), (2, NULL, NULL, false, NULL)");
  Write();
  EXPECT_EQ(Run({"query", "shop", "SELECT 1"}).exit_code, 2);
  const Outcome synced = Run({"sync"});
  ASSERT_EQ(synced.exit_code, 0) << synced.err;
  const Outcome rows = Run({"query", "shop", "SELECT * FROM t ORDER BY id", "--json"});
  ASSERT_EQ(rows.exit_code, 0) << rows.err;
  EXPECT_EQ(Json::parse(rows.out),
            Json::parse(R"([{"id":1,"name":"a","n":1.50,"ok":true,"j":{"k":[1]}},
                            {"id":2,"name":null,"n":null,"ok":false,"j":null}])"));
  EXPECT_THAT(Run({"query", "shop", "SELECT count(*) AS c FROM t"}).out, HasSubstr("(1 row)"));
  const Outcome write = Run({"query", "shop", "DELETE FROM t"});
  EXPECT_EQ(write.exit_code, 2) << write.err;
  EXPECT_THAT(write.err, HasSubstr("ETL-D125"));
  const Outcome check = Run({"check", "--json"});
  EXPECT_EQ(check.exit_code, 0) << check.out;
  EXPECT_THAT(check.out, HasSubstr("D22"));
}

TEST_F(Commands, TapPrintsWhatToJsonSaysAndLeavesNothingBehind) {
  Sql("CREATE TYPE pair AS (x int, y text);"
      "CREATE TABLE t (id int PRIMARY KEY, f float8, n numeric, b bool, ts timestamp, tz "
      "timestamptz,"
      " d date, j json, a int[], m text[], p pair, by bytea, u uuid);");
  Write();
  ASSERT_EQ(Run({"sync"}).exit_code, 0);
  const std::string slots = server_->Value("SELECT count(*) FROM pg_replication_slots");
  const pid_t tap = Start({"tap", "shop"}, "tap");
  ASSERT_TRUE(Eventually([&] {
    return Slurp(folder_ + "/tap.err").find("from now on") != std::string::npos;
  })) << Slurp(folder_ + "/tap.err");
  Sql("INSERT INTO t VALUES (1, 'NaN', 12.50, true, '2024-02-29 12:00:00.5', '0044-03-15 00:00+00 "
      "BC',"
      " 'infinity', E'{\"a\":\\n1}', '{{1,2},{3,NULL}}', '{\"a,b\",\"q\\\"\"}', ROW(1, 'z\"'), "
      "'\\x00ff',"
      " 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11');"
      "UPDATE t SET id = 2; TRUNCATE t;");
  ASSERT_TRUE(Eventually([&] {
    return Slurp(folder_ + "/tap.out").find("\"op\":\"t\"") != std::string::npos;
  })) << Slurp(folder_ + "/tap.err");
  const Outcome ended = End(tap, "tap");
  EXPECT_EQ(ended.exit_code, 0) << ended.err;
  std::vector<Json> lines;
  std::istringstream in(ended.out);
  for (std::string line; std::getline(in, line);) lines.push_back(Json::parse(line));
  ASSERT_EQ(lines.size(), 4u) << ended.out;
  EXPECT_EQ(lines[1]["op"], "d");
  EXPECT_EQ(lines[2]["op"], "i");
  EXPECT_EQ(lines[2]["key"], Json::parse(R"({"id":2})"));
  const Json& row = lines[0]["new"];
  EXPECT_EQ(row, Json::parse(R"x({"id":1,"f":"NaN","n":12.50,"b":true,"ts":"2024-02-29T12:00:00.5",
    "tz":"0044-03-15T00:00:00+00:00 BC","d":"infinity","j":{"a":1},"a":[[1,2],[3,null]],
    "m":["a,b","q\""],"p":{"x":1,"y":"z\""},"by":"\\x00ff",
    "u":"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"})x"));
  EXPECT_EQ(server_->Value("SELECT count(*) FROM pg_replication_slots"), slots);
}

TEST_F(Commands, VerifyAndSyncWorkThroughTheServiceThatRunsThePipeline) {
  Sql("CREATE TABLE t (id int PRIMARY KEY, v text);"
      "INSERT INTO t SELECT g, 'x' FROM generate_series(1, 1000) g");
  Write();
  const pid_t runner = StartRunner();
  Sql("INSERT INTO t VALUES (1001, 'y'); DELETE FROM t WHERE id = 1;");
  const Outcome verify = Run({"verify", "shop", "--json"});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  const Json report = Json::parse(verify.out, nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << verify.err;
  EXPECT_TRUE(report["equal"]);
  EXPECT_EQ(report["tables"][0]["source_rows"], 1000);
  EXPECT_EQ(Run({"verify", "shop", "--table", "public.none"}).exit_code, 2);
  // The service goes on.
  Sql("INSERT INTO t VALUES (2000, 'z')");
  const Outcome synced = Run({"sync"});
  EXPECT_EQ(synced.exit_code, 0) << synced.err;
  EXPECT_EQ(
      Json::parse(Run({"query", "shop", "SELECT count(*) AS n FROM t", "--json"}).out)[0]["n"],
      1001);
  EXPECT_EQ(Run({"run"}).exit_code, 75);
  EXPECT_EQ(End(runner, "run").exit_code, 0);
}

TEST_F(Commands, SyncSaysWhyAPipelineElsewhereStopped) {
  Sql("CREATE TABLE t (id int PRIMARY KEY)");
  Write();
  const pid_t runner = StartRunner();
  ASSERT_EQ(Run({"pipeline", "pause", "shop"}).exit_code, 0);
  // Its slot is taken away while it stands still.
  ASSERT_TRUE(Eventually([&] {
    return server_->Exec("SELECT pg_drop_replication_slot('" + database_ + "_slot')").ok();
  }));
  const Outcome synced = Run({"sync"});
  EXPECT_EQ(synced.exit_code, 1) << synced.err;
  EXPECT_THAT(synced.err, HasSubstr("ETL-S131"));
  EXPECT_THAT(synced.err, HasSubstr("ETL-S201"));
  End(runner, "run");
}

TEST_F(Commands, VerifyOfAnAppendPipelineComparesTheLatestRows) {
  Sql("CREATE TABLE t (id int PRIMARY KEY)");
  Write("    mode: append\n");
  ASSERT_EQ(Run({"sync"}).exit_code, 0);
  Sql("INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE id = 1");
  const Outcome verify = Run({"verify", "shop", "--json"});
  EXPECT_EQ(verify.exit_code, 0) << verify.err;
  const Json table = Json::parse(verify.out)["tables"][0];
  EXPECT_EQ(table["equal"], true);
  EXPECT_EQ(table["destination_rows"], 1);
}

TEST_F(Commands, DropThroughTheServiceForgetsThePipelineAndKeepsItsTables) {
  Sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
  Write();
  const pid_t runner = StartRunner();
  const Outcome dropped = Run({"pipeline", "drop", "shop", "--yes"});
  EXPECT_EQ(dropped.exit_code, 0) << dropped.err;
  EXPECT_THAT(dropped.out, HasSubstr("is still in"));
  EXPECT_EQ(server_->Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" +
                           database_ + "_slot'"),
            "0");
  EXPECT_EQ(Json::parse(Run({"status", "--json"}).out)["pipelines"][0]["phase"], "stopped");
  EXPECT_EQ(
      Json::parse(Run({"query", "shop", "SELECT count(*) AS n FROM t", "--json"}).out)[0]["n"], 1);
  // The service itself goes on.
  EXPECT_EQ(End(runner, "run").exit_code, 0);
}

}  // namespace
}  // namespace etl

// The program as a person meets it: exit codes, shapes of JSON, and what it never does.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

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

class Cli : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "cliXXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // Runs the program in the test's folder, with stdin closed to a terminal.
  Outcome Run(const std::vector<std::string>& words) const {
    const std::string out = folder_ + "/.out";
    const std::string err = folder_ + "/.err";
    const pid_t child = fork();
    if (child == 0) {
      const int input = open("/dev/null", O_RDONLY);
      const int output = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
      const int errors = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
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
    int status = 0;
    waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Slurp(out), Slurp(err)};
  }

  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ + "/" + name) << text;
  }
  // A source that nothing listens on.
  void WriteConfig() const {
    Write("etl-stream.yaml",
          "sources: {s: {type: postgres, url: \"postgres://u@127.0.0.1:1/x\"}}\n"
          "destinations: {d: {type: duckdb, path: x.duckdb}}\n"
          "pipelines:\n  shop: {source: s, destination: d}\n  other: {source: s, destination: d, "
          "enabled: false}\n");
  }

  std::string folder_;
};

TEST_F(Cli, VersionIsTextOrJson) {
  EXPECT_THAT(Run({"version"}).out, testing::MatchesRegex("etl-stream [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  const Outcome json = Run({"version", "--json"});
  EXPECT_EQ(json.exit_code, 0);
  EXPECT_EQ(Json::parse(json.out).at("name"), "etl-stream");
}

TEST_F(Cli, HelpIsAnsweredWithoutAConfiguration) {
  for (const std::string command :
       {"init", "check", "run", "sync", "status", "tap", "verify", "query", "pipeline"}) {
    const Outcome help = Run({command, "--help"});
    EXPECT_EQ(help.exit_code, 0) << command;
    EXPECT_THAT(help.out, HasSubstr(command));
    EXPECT_EQ(Run({"help", command}).out, help.out);
  }
  EXPECT_EQ(Run({"help", "pipeline", "drop"}).out, Run({"help", "pipeline"}).out);
  EXPECT_EQ(Run({"help", "key", "generate"}).out, Run({"help", "key"}).out);
  for (const char* action : {"stop", "generate"})
    EXPECT_EQ(Run({"help", "pipeline", action}).exit_code, 2);
}

TEST_F(Cli, WrongUseIsExitTwoOnStderr) {
  WriteConfig();
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{},
                                             {"nonsense"},
                                             {"status", "--nope"},
                                             {"sync", "shpo"},
                                             {"verify"},
                                             {"pipeline", "drop", "shop"},
                                             {"pipeline", "pause", "shop", "--table", "a.b"},
                                             {"verify", "shop", "--repair"},
                                             {"help", "ETL-Z999"},
                                             {"query", "shop"}}) {
    const Outcome outcome = Run(words);
    EXPECT_EQ(outcome.exit_code, 2) << (words.empty() ? "" : words.back()) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err, "");
  }
  EXPECT_THAT(Run({"sync", "shpo"}).err, HasSubstr("did you mean shop?"));
}

TEST_F(Cli, UnknownKeyShowsItsPlaceAndExitsSeventyEight) {
  Write("etl-stream.yaml", "version: 1\npipelines:\n  shop:\n    bacth: {}\n");
  for (const std::string command : {"check", "run", "sync", "status"}) {
    const Outcome outcome = Run({command});
    EXPECT_EQ(outcome.exit_code, 78) << command;
    EXPECT_THAT(outcome.err, HasSubstr("error ETL-C011: unknown field \"bacth\"\n"
                                       "  --> etl-stream.yaml:4:5\n"
                                       "4 |     bacth: {}\n"
                                       "  |     ^^^^^ did you mean \"batch\"?\n"));
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/etl-stream.db"));
}

TEST_F(Cli, MissingConfigurationExitsSeventyEight) {
  const Outcome outcome = Run({"run"});
  EXPECT_EQ(outcome.exit_code, 78);
  EXPECT_THAT(outcome.err, HasSubstr("etl-stream init"));
}

TEST_F(Cli, InitWritesAFileThatLoadsAndNeverOverwrites) {
  const Outcome first = Run(
      {"init", "--from", "postgres://u:hunter2@127.0.0.1:1/shop", "--to", "duckdb:mine.duckdb"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string text = Slurp(folder_ + "/etl-stream.yaml");
  EXPECT_THAT(text, Not(HasSubstr("hunter2")));
  EXPECT_THAT(first.out, HasSubstr("SHOP_PASSWORD"));
  EXPECT_THAT(first.out + first.err, Not(HasSubstr("hunter2")));
  EXPECT_EQ(Run({"status"}).exit_code, 0);
  const Outcome second = Run({"init"});
  EXPECT_EQ(second.exit_code, 2);
  EXPECT_EQ(Slurp(folder_ + "/etl-stream.yaml"), text);
}

TEST_F(Cli, StatusHasTheContractsShape) {
  WriteConfig();
  const Outcome outcome = Run({"status", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  const Json status = Json::parse(outcome.out);
  ASSERT_EQ(status.at("pipelines").size(), 2u);
  for (const Json& pipeline : status.at("pipelines")) {
    for (const char* key : {"name", "phase", "position", "source_position", "lag_bytes",
                            "lag_seconds", "error", "tables"}) {
      EXPECT_TRUE(pipeline.contains(key)) << key;
    }
    EXPECT_EQ(pipeline.at("phase"), "stopped");
    // Never run: nothing was ever seen.
    for (const char* key : {"lag_bytes", "at", "at_us"}) EXPECT_TRUE(pipeline.at(key).is_null());
  }
  EXPECT_EQ(Json::parse(Run({"status", "shop", "--json"}).out).at("pipelines").size(), 1u);
}

TEST_F(Cli, PauseIsNotedWithoutARunnerAndShown) {
  WriteConfig();
  const Outcome outcome = Run({"pipeline", "pause", "shop", "--json"});
  ASSERT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(Json::parse(outcome.out).at("state"), "noted");
  EXPECT_EQ(Json::parse(Run({"status", "shop", "--json"}).out).at("pipelines")[0].at("phase"),
            "paused");
  EXPECT_EQ(Run({"pipeline", "start", "shop"}).exit_code, 0);
  EXPECT_EQ(Json::parse(Run({"status", "shop", "--json"}).out).at("pipelines")[0].at("phase"),
            "stopped");
}

TEST_F(Cli, ResyncAsksUnlessToldNotTo) {
  WriteConfig();
  const Outcome asked = Run({"pipeline", "resync", "shop"});
  EXPECT_EQ(asked.exit_code, 2);
  EXPECT_THAT(asked.err, HasSubstr("--yes"));
  EXPECT_EQ(Run({"pipeline", "resync", "shop", "--table", "public.a", "--yes"}).exit_code, 0);
}

TEST_F(Cli, CheckOfAnUnreachableSourceIsANegativeVerdict) {
  WriteConfig();
  const Outcome outcome = Run({"check", "--json"});
  EXPECT_EQ(outcome.exit_code, 1) << outcome.err;
  const Json report = Json::parse(outcome.out);
  EXPECT_FALSE(report.at("ok"));
  EXPECT_GE(report.at("failed"), 1);
  bool found = false;
  for (const Json& check : report.at("checks"))
    found = found || (check.at("severity") == "fail" && check.at("part") == "source s");
  EXPECT_TRUE(found) << outcome.out;
  EXPECT_THAT(Run({"check"}).out, HasSubstr("FAIL"));
}

TEST_F(Cli, CompletionsAreScriptsThatTheirShellsAccept) {
  WriteConfig();
  EXPECT_THAT(Run({"completion", "bash"}).out, HasSubstr("complete -F _etl_stream etl-stream"));
  EXPECT_THAT(Run({"completion", "zsh"}).out, HasSubstr("#compdef etl-stream"));
  EXPECT_THAT(Run({"completion", "fish"}).out, HasSubstr("complete -c etl-stream"));
  EXPECT_EQ(Run({"completion", "names"}).out, "other\nshop\n");
  Write("script", Run({"completion", "bash"}).out);
  EXPECT_EQ(std::system(("bash -n " + folder_ + "/script").c_str()), 0);
}

TEST_F(Cli, PlaintextSecretsNeedTheirFlagAndWarn) {
  Write("etl-stream.yaml",
        "sources: {s: {type: postgres, url: postgres://h/x, password: hunter2}}\n");
  const Outcome refused = Run({"status"});
  EXPECT_EQ(refused.exit_code, 78);
  EXPECT_THAT(refused.err, Not(HasSubstr("hunter2")));
  const Outcome allowed = Run({"status", "--allow-plaintext-secrets"});
  EXPECT_EQ(allowed.exit_code, 0) << allowed.err;
  EXPECT_THAT(allowed.err, HasSubstr("clear"));
  EXPECT_THAT(allowed.err, Not(HasSubstr("hunter2")));
}

// Every code that the sources can print has a page that `help` finds.
TEST_F(Cli, EveryErrorCodeHasItsPage) {
  const std::regex code("\"(ETL-[A-Z][0-9]{3})\"");
  std::set<std::string> codes;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(ETL_SOURCE_DIR "/src")) {
    const std::string name = entry.path().filename().string();
    const bool source = name.ends_with(".cc") || name.ends_with(".h");
    if (!source || name.ends_with("_test.cc") || name == "error_pages.cc") continue;
    const std::string text = Slurp(entry.path().string());
    for (std::sregex_iterator at(text.begin(), text.end(), code), end; at != end; ++at)
      codes.insert((*at)[1].str());
  }
  EXPECT_GT(codes.size(), 20u);
  for (const std::string& each : codes) {
    const Outcome page = Run({"help", each});
    EXPECT_EQ(page.exit_code, 0) << each << " has no page in src/app/error_pages.cc";
    EXPECT_THAT(page.out, HasSubstr(each));
  }
}

}  // namespace
}  // namespace etl

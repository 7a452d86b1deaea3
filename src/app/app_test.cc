#include <cstdio>
#include <set>

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "app/command_line.h"
#include "app/error_pages.h"
#include "app/error_printer.h"
#include "app/exit_code.h"
#include "app/progress.h"
#include "app/signals.h"
#include "app/starter_config.h"
#include "app/table_printer.h"
#include "config/load.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ParsedCommandLine Parse(std::vector<const char*> words) {
  words.insert(words.begin(), "etl-stream");
  return ParseCommandLine(static_cast<int>(words.size()), words.data());
}

TEST(CommandLine, GlobalOptionsStandBeforeOrAfterTheCommand) {
  for (const auto& words : std::vector<std::vector<const char*>>{
           {"--config", "x.yaml", "--log-level", "debug", "--log-format", "json",
            "--allow-plaintext-secrets", "status", "--json"},
           {"status", "--json", "--config", "x.yaml", "--log-level=debug", "--log-format", "json",
            "--allow-plaintext-secrets"}}) {
    const ParsedCommandLine parsed = Parse(words);
    ASSERT_FALSE(parsed.finished) << parsed.text;
    EXPECT_EQ(parsed.line.command, "status");
    EXPECT_EQ(parsed.line.config, "x.yaml");
    EXPECT_EQ(parsed.line.log_level, LogLevel::kDebug);
    EXPECT_EQ(parsed.line.log_format, LogFormat::kJson);
    EXPECT_TRUE(parsed.line.allow_plaintext);
    EXPECT_TRUE(parsed.line.json);
  }
}

TEST(CommandLine, PositionalsReachTheirFields) {
  EXPECT_EQ(Parse({"sync", "a", "b"}).line.pipelines, (std::vector<std::string>{"a", "b"}));
  const CommandLine pipeline =
      Parse({"pipeline", "resync", "shop", "--table", "public.x", "--yes"}).line;
  EXPECT_EQ(pipeline.action, "resync");
  EXPECT_EQ(pipeline.pipeline, "shop");
  EXPECT_EQ(pipeline.table, "public.x");
  EXPECT_TRUE(pipeline.yes);
  const CommandLine key =
      Parse({"key", "generate", "sf", "--bits", "4096", "--user", "U", "--out", "x.p8"}).line;
  EXPECT_EQ(key.action, "generate");
  EXPECT_EQ(key.destination, "sf");
  EXPECT_EQ(key.bits, 4096);
  EXPECT_EQ(key.out, "x.p8");
  const CommandLine query = Parse({"query", "shop", "SELECT 1"}).line;
  EXPECT_EQ(query.sql, "SELECT 1");
}

TEST(CommandLine, WrongUseIsExitTwoWithTheNextCommand) {
  for (const auto& words :
       std::vector<std::vector<const char*>>{{},
                                             {"syncc"},
                                             {"top"},
                                             {"status", "--jsn"},
                                             {"tap"},
                                             {"query", "p"},
                                             {"pipeline", "stop", "p"},
                                             {"key"},
                                             {"key", "make"},
                                             {"key", "generate", "--bits", "1024"},
                                             {"--log-level", "loud", "status"},
                                             {"completion", "tcsh"},
                                             {"run", "p"}}) {
    const ParsedCommandLine parsed = Parse(words);
    EXPECT_TRUE(parsed.finished);
    EXPECT_EQ(parsed.exit_code, 2) << (words.empty() ? "" : words[0]);
    EXPECT_THAT(parsed.text, HasSubstr("etl-stream"));
  }
  EXPECT_THAT(Parse({"syncc"}).text, HasSubstr("etl-stream sync"));
  EXPECT_THAT(Parse({"top"}).text, HasSubstr("does not have the command top yet"));
}

TEST(CommandLine, EveryCommandHasHelp) {
  for (const std::string& name : CommandNames()) EXPECT_THAT(CommandHelp(name), HasSubstr(name));
  EXPECT_EQ(CommandHelp("nothing"), "");
  const ParsedCommandLine help = Parse({"verify", "--help"});
  EXPECT_TRUE(help.finished);
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.text, HasSubstr("--table"));
}

TEST(CommandLine, HelpTakesTheActionOfACommandToo) {
  for (const auto& words : std::vector<std::vector<const char*>>{{"help", "pipeline", "drop"},
                                                                 {"help", "key", "generate"}}) {
    const ParsedCommandLine parsed = Parse(words);
    EXPECT_FALSE(parsed.finished) << parsed.text;
    EXPECT_EQ(parsed.line.topic, words[1]);
  }
}

TEST(ExitCode, FollowsTheKindOfError) {
  const auto code = [](ErrorKind kind, std::string_view name = "ETL-X001") {
    return ExitCodeOf(MakeError(kind, name, "x"));
  };
  EXPECT_EQ(ExitCodeOf(Status::OK()), 0);
  EXPECT_EQ(code(ErrorKind::kNegative), 1);
  EXPECT_EQ(code(ErrorKind::kLost), 1);
  EXPECT_EQ(code(ErrorKind::kUsage), 2);
  EXPECT_EQ(code(ErrorKind::kTransient, "ETL-S101"), 69);
  EXPECT_EQ(code(ErrorKind::kTransient, "ETL-S204"), 75);
  EXPECT_EQ(code(ErrorKind::kBusy), 75);
  EXPECT_EQ(code(ErrorKind::kInternal), 70);
  EXPECT_EQ(code(ErrorKind::kAuth), 77);
  EXPECT_EQ(code(ErrorKind::kConfig), 78);
  EXPECT_EQ(ExitCodeOf(Status::Invalid("foreign")), 70);
}

TEST(ErrorPrinter, ShowsEachPartOnItsLineAndEscapesControl) {
  const Status status =
      MakeError(ErrorKind::kLost, ErrorParts{.code = "ETL-S203",
                                             .what = "slot \"etl_shop\" was invalidated\x1b[31m",
                                             .why = "too slow",
                                             .safe = "all before 0/1",
                                             .remedy = "first line\nsecond line"});
  EXPECT_EQ(FormatError(status),
            "error ETL-S203: slot \"etl_shop\" was invalidated\\x1b[31m\n"
            "  why    too slow\n"
            "  safe   all before 0/1\n"
            "  do     first line\n"
            "         second line\n"
            "  more   etl-stream help ETL-S203\n");
}

TEST(ErrorPages, AreFoundInAnyCaseAndUnique) {
  ASSERT_NE(FindErrorPage("ETL-C011"), nullptr);
  EXPECT_EQ(FindErrorPage("c011"), FindErrorPage("ETL-C011"));
  EXPECT_EQ(FindErrorPage("ETL-Z999"), nullptr);
  std::set<std::string_view> codes;
  for (const ErrorPage& page : ErrorPages()) {
    EXPECT_TRUE(codes.insert(page.code).second) << page.code;
    EXPECT_FALSE(page.title.empty());
    EXPECT_FALSE(page.text.empty());
  }
}

TEST(TablePrinter, AlignsWideCharactersAndEscapesControl) {
  TablePrinter table({"NAME", "N"}, {TablePrinter::Align::kLeft, TablePrinter::Align::kRight});
  table.Add({"漢字", "1"});
  table.Add({"a\x1b[2J\nb", "12345"});
  EXPECT_EQ(table.Render(),
            "NAME             N\n"
            "漢字             1\n"
            "a\\x1b[2J\\nb  12345\n");
}

TEST(TablePrinter, EscapesWhatCouldTurnTextAround) {
  EXPECT_EQ(Printable("a\u202e"
                      "b"),
            "a\\u202eb");
  EXPECT_EQ(Printable("\xc2\x9b"
                      "31m"),
            "\\x9b31m");
  EXPECT_EQ(Printable("\xff"), "\\xff");
  EXPECT_EQ(Printable("Zoë"), "Zoë");
}

TEST(TablePrinter, CutsWhatIsTooWide) {
  EXPECT_EQ(Fitted("abcdef", 4), "abc…");
  EXPECT_EQ(Fitted("漢字漢字", 5), "漢字…");
  EXPECT_EQ(Fitted("abc", 3), "abc");
}

TEST(TablePrinter, NumbersAreReadable) {
  EXPECT_EQ(Grouped(81204113), "81,204,113");
  EXPECT_EQ(Grouped(-1000), "-1,000");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(HumanBytes(512), "512 B");
  EXPECT_EQ(HumanBytes(12 << 20), "12.0 MiB");
}

class TestClock : public Clock {
 public:
  Instant Now() const override { return now; }
  UnixMicros WallNow() const override { return 0; }
  Instant now{std::chrono::hours(1)};
};

class ProgressTest : public testing::Test {
 protected:
  std::string Drawn(bool terminal, const std::vector<std::pair<Duration, PipelineStatus>>& steps) {
    char* text = nullptr;
    size_t size = 0;
    FILE* out = open_memstream(&text, &size);
    Progress progress(out, terminal, 60, clock_);
    for (const auto& [pause, status] : steps) {
      clock_.now += pause;
      progress.Update(status);
    }
    progress.Finish();
    fclose(out);
    std::string drawn(text, size);
    free(text);
    return drawn;
  }
  static PipelineStatus Copying(int64_t rows) {
    PipelineStatus status;
    status.name = "shop";
    status.phase = PipelinePhase::kCopying;
    status.tables.push_back(
        {.name = "public.a", .phase = TablePhase::kCopying, .rows = rows, .rows_total = 1000});
    return status;
  }
  TestClock clock_;
};

TEST_F(ProgressTest, OffATerminalPrintsALineEveryFewSecondsWithoutControl) {
  const std::string drawn = Drawn(false, {{Duration(0), Copying(0)},
                                          {std::chrono::seconds(1), Copying(100)},
                                          {std::chrono::seconds(3), Copying(500)}});
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), '\n'), 2);
  EXPECT_THAT(drawn, Not(HasSubstr("\x1b")));
  EXPECT_THAT(drawn, HasSubstr("shop  copying  50%  500 of about 1,000 rows, 1 of 1 tables left"));
  EXPECT_THAT(drawn, HasSubstr("eta"));
}

TEST_F(ProgressTest, BeforeAnyTableIsKnownItSaysStarting) {
  PipelineStatus nothing = Copying(0);
  nothing.tables.clear();
  EXPECT_EQ(Drawn(false, {{Duration(0), nothing}}), "shop  starting\n");
  EXPECT_THAT(Drawn(true, {{Duration(0), nothing}}), Not(HasSubstr("[#")));
}

TEST_F(ProgressTest, AChangeOfPhaseIsToldAtOnce) {
  PipelineStatus running = Copying(1000);
  running.phase = PipelinePhase::kRunning;
  running.tables[0].phase = TablePhase::kLive;
  EXPECT_THAT(Drawn(false, {{Duration(0), Copying(0)}, {std::chrono::milliseconds(10), running}}),
              HasSubstr("shop  running"));
}

TEST_F(ProgressTest, OnATerminalDrawsOneLineThatFits) {
  const std::string drawn =
      Drawn(true, {{Duration(0), Copying(0)}, {std::chrono::seconds(1), Copying(500)}});
  EXPECT_THAT(drawn, HasSubstr("[############............]"));
  EXPECT_EQ(std::count(drawn.begin(), drawn.end(), '\n'), 1);
  size_t begin = 0;
  while ((begin = drawn.find("\x1b[K", begin)) != std::string::npos) {
    begin += 3;
    const size_t end = drawn.find_first_of("\r\n", begin);
    EXPECT_LT(DisplayWidth(drawn.substr(begin, end - begin)), 60);
  }
}

TEST(Signals, FirstTermAsksToStopAndHangupToReload) {
  Interrupt interrupt;
  const SignalWatcher watcher(interrupt);
  const auto wait = [&] {
    pollfd fd{interrupt.changed().fd(), POLLIN, 0};
    ASSERT_EQ(poll(&fd, 1, 5000), 1);
    interrupt.changed().Clear();
  };
  kill(getpid(), SIGHUP);
  wait();
  EXPECT_TRUE(interrupt.TakeReload());
  EXPECT_FALSE(interrupt.TakeReload());
  EXPECT_FALSE(interrupt.stopping());
  kill(getpid(), SIGTERM);
  wait();
  EXPECT_TRUE(interrupt.stopping());
}

void TermTwice() {
  Interrupt interrupt;
  const SignalWatcher watcher(interrupt);
  kill(getpid(), SIGTERM);
  pollfd fd{interrupt.changed().fd(), POLLIN, 0};
  poll(&fd, 1, 5000);
  kill(getpid(), SIGTERM);
  poll(nullptr, 0, 5000);
}

TEST(SignalsDeathTest, SecondTermEndsAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(TermTwice(), testing::ExitedWithCode(128 + SIGTERM), "");
}

TEST(StarterConfig, LoadsAndNeverHoldsThePassword) {
  for (const char* from :
       {"", "postgres://u:hunter2@db:5432/My-Shop?sslmode=require",
        "host=db user=u password=hunter2 dbname=x", "postgresql://h/a\"b\\c$d"}) {
    const StarterConfig starter =
        MakeStarterConfig(from, "duckdb:mine \"x\" $HOME.duckdb").ValueOrDie();
    EXPECT_THAT(starter.text, Not(HasSubstr("hunter2")));
    const LoadedConfig loaded = LoadConfigText(starter.text, "etl-stream.yaml");
    ASSERT_NE(loaded.config, nullptr) << loaded.Describe();
    EXPECT_EQ(loaded.config->destinations.begin()->second.path, "mine \"x\" $HOME.duckdb");
    EXPECT_EQ(starter.hint.empty(), *from == '\0');
  }
}

TEST(StarterConfig, APasswordThatMayBeMissingIsToldOfUnlessTheServerIsHere) {
  for (const char* from : {"postgres://etl@db.internal:5432/shop", "postgresql://db.internal/shop",
                           "host=db.internal user=etl dbname=shop"}) {
    const StarterConfig starter = MakeStarterConfig(from, "").ValueOrDie();
    EXPECT_THAT(starter.text, HasSubstr("\n    # password: {env: SHOP_PASSWORD}\n"));
    EXPECT_THAT(starter.hint, HasSubstr("`password: {env: SHOP_PASSWORD}`")) << from;
    EXPECT_THAT(starter.hint, HasSubstr("export SHOP_PASSWORD=")) << from;
  }
  for (const char* from : {"postgres://etl@localhost/shop", "postgres://etl@[::1]:5432/shop",
                           "postgres:///shop?host=/run/postgresql", "dbname=shop host=127.0.0.1"})
    EXPECT_EQ(MakeStarterConfig(from, "").ValueOrDie().hint, "") << from;
}

TEST(StarterConfig, NamesThePipelineAfterTheDatabase) {
  const StarterConfig starter = MakeStarterConfig("postgres://u:p@db/My-Shop", "").ValueOrDie();
  EXPECT_THAT(starter.text, HasSubstr("\n  my_shop:\n"));
  EXPECT_THAT(starter.text, HasSubstr("password: {env: MY_SHOP_PASSWORD}"));
  EXPECT_THAT(starter.hint, HasSubstr("MY_SHOP_PASSWORD"));
}

TEST(StarterConfig, OtherDestinationsAndBadUrlsAreRefused) {
  EXPECT_EQ(KindOf(MakeStarterConfig("", "snowflake:x").status()), ErrorKind::kUsage);
  EXPECT_EQ(KindOf(MakeStarterConfig("", "duckdb:").status()), ErrorKind::kUsage);
  EXPECT_EQ(KindOf(MakeStarterConfig("mysql://x", "").status()), ErrorKind::kUsage);
}

}  // namespace
}  // namespace etl

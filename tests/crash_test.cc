// The program is killed at each of its failpoints, started again, and the copy equals the source.
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <csignal>

#include "support/e2e_fixture.h"
#include "support/failpoints.h"

namespace etl {
namespace {

namespace fs = std::filesystem;

// Every failpoint, by the workload that passes it. A name that the sources have and this list does
// not is a failure, and the other way round.
const std::set<std::string> kByFilling = {
    "duckdb.history.before_commit", "duckdb.history.after_commit", "duckdb.segment.before_commit",
    "duckdb.segment.after_commit",  "duckdb.chunk.before_commit",  "duckdb.chunk.after_commit",
    "duckdb.fold.before_commit",    "duckdb.fold.after_commit",    "duckdb.fold.middle"};
const std::set<std::string> kByStoppingATable = {"duckdb.stop.before_commit",
                                                 "duckdb.stop.after_commit"};
const std::set<std::string> kByANewTimeline = {"duckdb.timeline.before_commit",
                                               "duckdb.timeline.after_commit"};
const std::set<std::string> kByANewTimelineDuringACopy = {"duckdb.abandon.before_commit",
                                                          "duckdb.abandon.after_commit"};
const std::set<std::string> kByRebuilding = {"duckdb.rebuild.middle"};
const std::set<std::string> kByDropping = {"duckdb.forget.before_commit",
                                           "duckdb.forget.after_commit"};

class Crash : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    // A few chunks are stored at once: enough of them that this happens several times.
    config_.pipeline[1] = "snapshot: {parallelism: 2, chunk_rows: 100}";
    space_.Write(config_);
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, n int, v text); ALTER TABLE public.a ALTER "
            "v SET STORAGE EXTERNAL; INSERT INTO public.a SELECT i, i, repeat(md5(i::text), 100) "
            "FROM generate_series(1, 2000) i; CREATE TABLE public.bag (n int, v text); ALTER TABLE "
            "public.bag REPLICA IDENTITY FULL; INSERT INTO public.bag SELECT i % 7, 'x' FROM "
            "generate_series(1, 100) i"));
  }
  // Every kind of change, in several transactions.
  void Change(int round) {
    const std::string r = std::to_string(round);
    for (const std::string& sql : std::vector<std::string>{
             "INSERT INTO public.a SELECT i, i, 'round " + r +
                 "' FROM generate_series(10000 + 100 * " + r + ", 10050 + 100 * " + r +
                 ") i ON CONFLICT DO NOTHING",
             "UPDATE public.a SET n = n + 1 WHERE id % 5 = " + r + " % 5",
             "UPDATE public.a SET id = 1000000 + (SELECT max(id) FROM public.a) WHERE id = (SELECT "
             "min(id) FROM public.a WHERE id > 20)",
             "DELETE FROM public.a WHERE id = 30 + " + r,
             "UPDATE public.a SET id = 30 + " + r + " WHERE id = 60 + " + r,
             "DELETE FROM public.a WHERE id % 31 = " + r,
             "DELETE FROM public.bag WHERE ctid = (SELECT min(ctid) FROM public.bag); INSERT INTO "
             "public.bag VALUES (1, 'x'), (1, 'x'), (NULL, NULL)"}) {
      ASSERT_TRUE(Sql(sql)) << sql;
    }
  }
  // `run` with the failpoint armed until it dies of it, with changes on the way.
  void DieAt(const std::string& name, int nth) {
    Running run =
        space_.Start({"run"}, {{"ETL_FAILPOINTS", name + "=exit:" + std::to_string(nth)}});
    int round = 0;
    while (run.alive() && round < 60) {
      Change(++round);
      timespec pause{.tv_sec = 0, .tv_nsec = 200'000'000};
      nanosleep(&pause, nullptr);
    }
    const Ended ended = run.Kill();
    EXPECT_LT(round, 60) << name << " was never passed: " << ended.Describe();
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
  }
};

TEST_F(Crash, TheListOfFailpointsIsTheSources) {
  std::set<std::string> listed;
  for (const auto* set :
       {&kByFilling, &kByStoppingATable, &kByANewTimeline, &kByANewTimelineDuringACopy,
        &kByRebuilding, &kByDropping, &kSnowflakeFailpoints})
    listed.insert(set->begin(), set->end());
  std::set<std::string> found;
  // Names are passed through functions too: every string of the form of a failpoint's name counts.
  const std::regex name(
      "\"((duckdb|pipeline|reader|writer|copier|postgres|control)\\.[a-z_]+\\."
      "(before_commit|after_commit|middle|before|after))\"");
  int macros = 0;
  for (const auto& entry : fs::recursive_directory_iterator(ETL_SOURCE_DIR "/src")) {
    const std::string file = entry.path().filename().string();
    if (!file.ends_with(".cc") && !file.ends_with(".h")) continue;
    if (file.ends_with("_test.cc") || file.starts_with("failpoint")) continue;
    std::ifstream in(entry.path());
    std::ostringstream text;
    text << in.rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator at(source.begin(), source.end(), name), end; at != end; ++at)
      found.insert((*at)[1].str());
    const std::regex direct("ETL_FAILPOINT\\(\"([^\"]+)\"\\)");
    for (std::sregex_iterator at(source.begin(), source.end(), direct), end; at != end; ++at) {
      found.insert((*at)[1].str());
      ++macros;
    }
  }
  EXPECT_GT(macros, 5);
  EXPECT_EQ(found, listed);
}

TEST_F(Crash, AtEveryFailpointOfFillingAndStreaming) {
  const std::vector<std::string> names(kByFilling.begin(), kByFilling.end());
  // Twice in a row where it can be passed again, so that a repair that dies is repaired too.
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    space_.RemoveCopy();
    (void)server_->Exec("SELECT pg_drop_replication_slot('" + slot_ + "')");
    DieAt(name, 1);
    const bool again =
        name.find("segment") != std::string::npos || name.find("chunk") != std::string::npos;
    if (again) DieAt(name, 3);
    ASSERT_NO_FATAL_FAILURE(ExpectEqual());
    if (HasFailure()) return;
    if (ShortTests()) break;
  }
  const Ended verify = space_.Run({"verify", "p", "--json"});
  EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
}

TEST_F(Crash, WhileATableThatDivergedIsSetAside) {
  for (const std::string& name : kByStoppingATable) {
    SCOPED_TRACE(name);
    ASSERT_EQ(space_.Sync().exit_code, 0);
    // Somebody meddles with the copy: the next change of that row finds nothing to change.
    const etl::Status meddled =
        ExecuteDuckDb(space_.duckdb(), "DELETE FROM copy.public.a WHERE id IN (5, 6)");
    ASSERT_TRUE(meddled.ok()) << ErrorLine(meddled);
    ASSERT_TRUE(Sql("UPDATE public.a SET n = n + 1 WHERE id IN (5, 6)"));
    const Ended ended = space_.Run({"sync"}, {{"ETL_FAILPOINTS", name + "=exit"}});
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
    // What is known to differ is copied again.
    ExpectEqual();
  }
}

TEST_F(Crash, AtANewTimeline) {
  for (const std::string& name : kByANewTimeline) {
    SCOPED_TRACE(name);
    ASSERT_EQ(space_.Sync().exit_code, 0);
    Change(3);
    // Recovery from an archive that holds nothing ends in a new timeline.
    ASSERT_TRUE(server_->Stop().ok());
    { std::ofstream signal_file(server_->directory() + "/data/recovery.signal"); }
    ASSERT_TRUE(server_->Restart().ok());
    const Ended ended = space_.Run({"sync"}, {{"ETL_FAILPOINTS", name + "=exit"}});
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
    Change(8);
    ExpectEqual();
  }
}

// The old primary's last rows were copied, and the new one never had them.
TEST_F(Crash, AtANewTimelineDuringACopy) {
  for (const std::string& name : kByANewTimelineDuringACopy) {
    SCOPED_TRACE(name);
    space_.RemoveCopy();
    (void)server_->Exec("SELECT pg_drop_replication_slot('" + slot_ + "')");
    const Ended copy = space_.Run({"sync"}, {{"ETL_FAILPOINTS", "duckdb.chunk.after_commit=exit"}});
    EXPECT_EQ(copy.signal, SIGKILL) << copy.Describe();
    const auto shadows = QueryDuckDb(space_.duckdb(),
                                     "SELECT table_name FROM duckdb_tables() WHERE table_name LIKE "
                                     "'%shadow%' AND table_name LIKE "
                                     "'%' || (SELECT max(oid) FROM copy._etl.chunks_done)");
    ASSERT_TRUE(shadows.ok()) << ErrorLine(shadows.status());
    ASSERT_EQ(shadows->size(), 1u);
    const etl::Status lost =
        ExecuteDuckDb(space_.duckdb(),
                      "UPDATE copy._etl.chunks_done SET high = 1000000000000; UPDATE copy.public." +
                          (*shadows)[0][0].value_or("") + " SET n = -1");
    ASSERT_TRUE(lost.ok()) << ErrorLine(lost);
    ASSERT_TRUE(server_->Stop().ok());
    { std::ofstream signal_file(server_->directory() + "/data/recovery.signal"); }
    ASSERT_TRUE(server_->Restart().ok());
    const Ended ended = space_.Run({"sync"}, {{"ETL_FAILPOINTS", name + "=exit"}});
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
    ExpectEqual();
  }
}

// It lets sessions in before it can be decoded from, and before it has got to where it was.
TEST_F(Crash, WhileTheServerStillRecovers) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change(3);
  ASSERT_TRUE(server_->Stop().ok());
  { std::ofstream signal_file(server_->directory() + "/data/standby.signal"); }
  ASSERT_TRUE(server_->Restart().ok());
  const auto move = [&](const char* by) {
    return ExecuteDuckDb(space_.duckdb(),
                         std::string("UPDATE copy._etl.progress SET position = position ") + by);
  };
  ASSERT_TRUE(move("+ 1000000000").ok());
  const Workspace::Config patient = config_;
  config_.pipeline.back() = "retry: {max_delay: 100ms, give_up: 200ms}";
  space_.Write(config_);
  const Ended behind = space_.Sync();
  EXPECT_EQ(behind.exit_code, 75) << behind.Describe();
  EXPECT_THAT(behind.err, testing::HasSubstr("still recovers")) << behind.Describe();
  ASSERT_TRUE(move("- 1000000000").ok());
  space_.Write(config_ = patient);
  Running sync = space_.Start({"sync"});
  EXPECT_TRUE(Eventually([&] {
    return sync.err_so_far().find("while in recovery") != std::string::npos;
  })) << sync.err_so_far();
  EXPECT_EQ(server_->Value("SELECT pg_promote()"), "t");
  const Ended ended = sync.Wait(std::chrono::seconds(30));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_EQ(Different(), "");
}

// With the least memory, and a table of more vectors than three eighths of DuckDB's part hold: the
// second piece of the transaction builds the table anew.
TEST_F(Crash, WhileATableIsBuiltAnew) {
  ASSERT_TRUE(
      Sql("CREATE TABLE public.large (id int PRIMARY KEY, n int); INSERT INTO public.large "
          "SELECT i, 0 FROM generate_series(1, 3500000) i"));
  config_.tables = "[public.large]";
  config_.pipeline[1] = "snapshot: {parallelism: 2, chunk_rows: 500000}";
  config_.top = {"limits: {memory: 64MiB}"};
  space_.Write(config_);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  int round = 0;
  for (const char* name : {"duckdb.rebuild.middle", "duckdb.segment.after_commit"}) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(Sql("UPDATE public.large SET n = n + 1 WHERE id % 2000 = 0"));
    const Ended ended = space_.Run({"sync"}, {{"ETL_FAILPOINTS", std::string(name) + "=exit"}});
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
    const auto rows = QueryDuckDb(
        space_.duckdb(), "SELECT count(*), count(DISTINCT id), sum(n) FROM copy.public.large");
    ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
    EXPECT_EQ((*rows)[0][0], "3500000");
    EXPECT_EQ((*rows)[0][1], "3500000");
    EXPECT_EQ((*rows)[0][2], std::to_string(1750 * ++round));
  }
}

TEST_F(Crash, WhileAPipelineIsDropped) {
  for (const std::string& name : kByDropping) {
    SCOPED_TRACE(name);
    ASSERT_EQ(space_.Sync().exit_code, 0);
    const Ended ended =
        space_.Run({"pipeline", "drop", "p", "--yes"}, {{"ETL_FAILPOINTS", name + "=exit"}});
    EXPECT_EQ(ended.signal, SIGKILL) << ended.Describe();
    const Ended again = space_.Run({"pipeline", "drop", "p", "--yes"});
    EXPECT_EQ(again.exit_code, 0) << again.Describe();
    EXPECT_EQ(server_->Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" +
                             slot_ + "'"),
              "0");
    EXPECT_EQ(Value("SELECT count(*) FROM pg_publication"), "0");
    const auto rows = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy.public.a");
    ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
    EXPECT_EQ((*rows)[0][0], Value("SELECT count(*) FROM public.a")) << "the tables are left";
    space_.RemoveCopy();
  }
}

TEST_F(Crash, DuringACopyFinishedChunksAreNotReadAgain) {
  // 20 chunks of 100 rows, up to four stored at once; killed after the third time.
  Running run = space_.Start({"run"}, {{"ETL_FAILPOINTS", "duckdb.chunk.after_commit=exit:3"}});
  const Ended ended = run.Wait(std::chrono::seconds(60));
  ASSERT_EQ(ended.signal, SIGKILL) << ended.Describe();
  const auto done = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy._etl.chunks_done");
  ASSERT_TRUE(done.ok()) << ErrorLine(done.status());
  const int stored = std::atoi((*done)[0][0]->c_str());
  ASSERT_GE(stored, 2);
  const auto planned = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy._etl.chunks");
  ASSERT_TRUE(planned.ok());
  const int chunks = std::atoi((*planned)[0][0]->c_str());
  ASSERT_GT(chunks, stored);
  // What is left is stored at most as often as there are chunks left: dying after that never
  // happens.
  const Ended rest =
      space_.Run({"sync"}, {{"ETL_FAILPOINTS", "duckdb.chunk.after_commit=exit:" +
                                                   std::to_string(chunks - stored + 2)}});
  EXPECT_EQ(rest.exit_code, 0) << rest.Describe();
  EXPECT_EQ(Different(), "");
}

TEST_F(Crash, OfTheSourceItselfLosesNothing) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  for (int round = 1; round <= 3; ++round) {
    Change(round);
    ASSERT_TRUE(server_->Crash().ok());
    ASSERT_TRUE(server_->Restart().ok());
    Change(round + 10);
  }
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  (void)run.Kill();
  EXPECT_EQ(Different(), "");
}

}  // namespace
}  // namespace etl

// SIGTERM ends `run` within ten seconds with exit 0, whatever it is doing; a reload with a broken
// configuration changes nothing; commands that are left in the catalog are obeyed.
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

class Shutdown : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text); INSERT INTO public.a SELECT i, "
            "md5(i::text) FROM generate_series(1, 3000) i"));
  }
  void ExpectStops(Running& run) {
    const auto before = std::chrono::steady_clock::now();
    run.Signal(SIGTERM);
    const Ended ended = run.Wait(seconds(12));
    const double took =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    EXPECT_FALSE(ended.timed_out) << ended.Describe();
    EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
    EXPECT_LT(took, 10.0) << ended.Describe();
  }
  // No connection of the program stays at the server.
  void ExpectNothingLeft() {
    EXPECT_TRUE(Eventually([&] {
      return server_->Value("SELECT count(*) FROM pg_stat_activity WHERE datname = '" + database_ +
                            "' AND pid <> pg_backend_pid()") == "0";
    }))
        << server_->Value(
               "SELECT string_agg(application_name || ': ' || query, '; ') FROM "
               "pg_stat_activity WHERE datname = '" +
               database_ + "'");
  }
};

TEST_F(Shutdown, WhileIdle) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ExpectStops(run);
  ExpectNothingLeft();
  EXPECT_EQ(Different(), "");
  EXPECT_EQ(Phase(), "stopped");
}

TEST_F(Shutdown, DuringTheSnapshot) {
  ASSERT_TRUE(
      Sql("INSERT INTO public.a SELECT i, repeat(md5(i::text), 10) FROM "
          "generate_series(10000, 80000) i"));
  Running run = space_.Start({"run"}, {{"ETL_FAILPOINTS", "duckdb.chunk.before_commit=pause:100"}});
  ASSERT_TRUE(Eventually([&] { return Phase() == "copying"; }));
  ExpectStops(run);
  ExpectNothingLeft();
  ExpectEqual();
}

TEST_F(Shutdown, DuringALargeTransaction) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_TRUE(
      Sql("INSERT INTO public.a SELECT i, md5(i::text) FROM generate_series(10000, "
          "60000) i; UPDATE public.a SET v = v || 'x'"));
  timespec pause{.tv_sec = 0, .tv_nsec = 400'000'000};
  nanosleep(&pause, nullptr);
  ExpectStops(run);
  ExpectNothingLeft();
  ExpectEqual();
}

TEST_F(Shutdown, WhileRetryingWithTheSourceDown) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_TRUE(server_->Crash().ok());
  EXPECT_TRUE(Eventually([&] { return Phase() == "retrying"; })) << Status();
  ExpectStops(run);
  ASSERT_TRUE(server_->Restart().ok());
  ExpectEqual();
}

TEST_F(Shutdown, BeforeTheSourceWasEverReached) {
  ASSERT_TRUE(server_->Stop().ok());
  Running run = space_.Start({"run"});
  EXPECT_TRUE(Eventually([&] { return Phase() == "retrying"; })) << run.err_so_far();
  EXPECT_TRUE(run.alive()) << "run goes on trying";
  ExpectStops(run);
  ASSERT_TRUE(server_->Restart().ok());
  ExpectEqual();
}

TEST_F(Shutdown, WhileTheSlotWaitsForAnOpenTransaction) {
  // CREATE_REPLICATION_SLOT waits for transactions that are open.
  ASSERT_TRUE(Sql("BEGIN; INSERT INTO public.a VALUES (-1, 'open'); PREPARE TRANSACTION 'hold'"));
  Running run = space_.Start({"run"});
  EXPECT_TRUE(Eventually([&] {
    return server_->Value(
               "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' "
               "AND datname = '" +
               database_ + "'") != "0";
  }));
  timespec pause{.tv_sec = 0, .tv_nsec = 500'000'000};
  nanosleep(&pause, nullptr);
  ExpectStops(run);
  ASSERT_TRUE(Sql("COMMIT PREPARED 'hold'"));
  ExpectNothingLeft();
  ExpectEqual();
}

TEST_F(Shutdown, InterruptedByAKeyboardToo) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  run.Signal(SIGINT);
  EXPECT_EQ(run.Wait(seconds(10)).exit_code, 0);
}

TEST_F(Shutdown, ReloadOfABrokenConfigurationChangesNothing) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  space_.WriteFile("etl-stream.yaml", "version: 1\npipelines: {p: {nonsense: 1}}\n");
  run.Signal(SIGHUP);
  ASSERT_TRUE(Eventually([&] { return run.err_so_far().find("ETL-C011") != std::string::npos; }))
      << run.err_so_far();
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (-5, 'after the reload')"));
  space_.Write(config_);  // Only so that the other commands can read it.
  EXPECT_TRUE(run.alive());
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  ExpectStops(run);
  EXPECT_EQ(Different(), "");
}

TEST_F(Shutdown, ReloadStartsAChangedPipelineAnew) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_TRUE(
      Sql("CREATE SCHEMA more; CREATE TABLE more.b (id int PRIMARY KEY); INSERT INTO "
          "more.b VALUES (1)"));
  config_.pipeline[2] = "batch: {max_rows: 10, max_delay: 20ms}";
  space_.Write(config_);
  run.Signal(SIGHUP);
  EXPECT_TRUE(Eventually([&] { return TablePhase("more.b") == "live"; }, seconds(40))) << Status();
  ExpectStops(run);
  EXPECT_EQ(Different(), "");
}

using Control = Shutdown;

TEST_F(Control, PauseHoldsAndStartGoesOn) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_EQ(space_.Run({"pipeline", "pause", "p"}).exit_code, 0);
  ASSERT_TRUE(Eventually([&] { return Phase() == "paused"; }, seconds(8))) << Status();
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (-7, 'while paused')"));
  timespec pause{.tv_sec = 1, .tv_nsec = 500'000'000};
  nanosleep(&pause, nullptr);
  EXPECT_THAT(Different(), HasSubstr("1 only in the source"));
  EXPECT_EQ(Phase(), "paused");
  ASSERT_EQ(space_.Run({"pipeline", "start", "p"}).exit_code, 0);
  EXPECT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60))) << Status();
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  ExpectStops(run);
  EXPECT_EQ(Different(), "");
}

TEST_F(Control, PauseSurvivesARestart) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_EQ(space_.Run({"pipeline", "pause", "p"}).exit_code, 0);
  ASSERT_TRUE(Eventually([&] { return Phase() == "paused"; }, seconds(8))) << Status();
  (void)run.Kill();
  Running again = space_.Start({"run"});
  timespec pause{.tv_sec = 2, .tv_nsec = 0};
  nanosleep(&pause, nullptr);
  EXPECT_EQ(Phase(), "paused");
  ASSERT_EQ(space_.Run({"pipeline", "start", "p"}).exit_code, 0);
  EXPECT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60))) << Status();
  ExpectStops(again);
}

TEST_F(Control, ResyncCopiesAgainWhileRunning) {
  config_.destination = ", release: 100ms";
  space_.Write(config_);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--table", "public.a", "--yes"}).exit_code, 0);
  ASSERT_TRUE(Eventually([&] {
    return run.err_so_far().find("will be copied again") != std::string::npos;
  })) << run.err_so_far();
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(Sql("UPDATE public.a SET v = v || 'r' WHERE id % 20 = " + std::to_string(i)));
  const auto generation = [&]() -> std::string {
    const auto rows = QueryDuckDb(space_.duckdb(), "SELECT max(generation) FROM copy._etl.tables");
    return rows.ok() && !rows->empty() ? (*rows)[0][0].value_or("?") : "?";
  };
  EXPECT_TRUE(Eventually([&] { return TablePhase("public.a") == "live" && generation() == "2"; },
                         seconds(30)))
      << generation() << Status();
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  ExpectStops(run);
  EXPECT_EQ(Different(), "");
}

TEST_F(Control, DropWhileRunningLeavesTheTables) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  const Ended drop = space_.Run({"pipeline", "drop", "p", "--yes"});
  EXPECT_EQ(drop.exit_code, 0) << drop.Describe();
  EXPECT_TRUE(Eventually([&] {
    return server_->Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ +
                          "'") == "0";
  })) << run.err_so_far();
  ExpectStops(run);
  const auto rows = QueryDuckDb(space_.duckdb(), "SELECT count(*) FROM copy.public.a");
  ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
  EXPECT_EQ((*rows)[0][0], "3000");
}

}  // namespace
}  // namespace etl

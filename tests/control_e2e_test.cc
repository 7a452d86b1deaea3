// What a person asks of a pipeline that runs: tables tried again, left out, named wrongly; a
// pipeline switched off by a reload.
#include <chrono>
#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

class ControlE2e : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    role_ = "r_" + database_;
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY); INSERT INTO public.a VALUES (1);"
            "CREATE TABLE public.b (id int PRIMARY KEY); INSERT INTO public.b VALUES (1), (2)"));
  }
  // From here on the pipeline's role may read public.a only.
  void WithRoleThatMayNotReadB() {
    ASSERT_TRUE(Sql("CREATE ROLE " + role_ + " LOGIN REPLICATION; GRANT SELECT ON public.a TO " +
                    role_ + "; CREATE PUBLICATION etl_p FOR TABLE public.a, public.b"));
    config_.url = server_->ConnInfo(database_) + " user=" + role_;
    space_.Write(config_);
  }
  void TearDown() override {
    E2eTest::TearDown();
    (void)server_->Exec("DROP ROLE IF EXISTS " + role_);
  }
  std::string role_;
};

TEST_F(ControlE2e, StartTriesATableThatWasSetAsideAgain) {
  WithRoleThatMayNotReadB();
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return TablePhase("public.b") == "stopped"; })) << Status();
  ASSERT_TRUE(Sql("GRANT SELECT ON public.b TO " + role_));
  ASSERT_EQ(space_.Run({"pipeline", "start", "p"}).exit_code, 0);
  EXPECT_TRUE(Eventually([&] { return TablePhase("public.b") == "live"; })) << Status();
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(ControlE2e, SyncBesideARunnerTriesATableThatWasSetAsideAgain) {
  WithRoleThatMayNotReadB();
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return TablePhase("public.b") == "stopped"; })) << Status();
  const Ended before = space_.Sync();
  EXPECT_EQ(before.exit_code, 1) << before.Describe();
  ASSERT_TRUE(Sql("GRANT SELECT ON public.b TO " + role_));
  const Ended after = space_.Sync();
  EXPECT_EQ(after.exit_code, 0) << after.Describe();
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(ControlE2e, ATableThatIsNoLongerSelectedStaysAsItIs) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  config_.tables = "[\"public.*\", \"!public.b\"]";
  space_.Write(config_);
  for (int i = 7; i < 9; ++i) {
    const std::string row = " VALUES (" + std::to_string(i) + ")";
    ASSERT_TRUE(Sql("INSERT INTO public.a" + row + "; INSERT INTO public.b" + row));
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  }
  EXPECT_EQ(TablePhase("public.b"), "stopped");
  EXPECT_THAT(Different(), HasSubstr("public.b"));
}

// Correctness, section 4: the same ranges over the root.
TEST_F(ControlE2e, PartitionsThatMayNotBeReadAreCopiedThroughTheirRoot) {
  ASSERT_TRUE(
      Sql("CREATE TABLE public.m (id int, v text, w int, PRIMARY KEY (id)) PARTITION BY RANGE (id);"
          "CREATE TABLE public.m1 PARTITION OF public.m FOR VALUES FROM (0) TO (8000);"
          "CREATE TABLE public.m2 (w int, gone int, v text, id int NOT NULL, PRIMARY KEY (id));"
          "ALTER TABLE public.m2 DROP COLUMN gone; ALTER TABLE public.m ATTACH PARTITION public.m2 "
          "FOR VALUES FROM (8000) TO (9000);"
          "INSERT INTO public.m SELECT i, repeat('x', 100), i FROM generate_series(1, 8500) i"));
  ASSERT_TRUE(Sql("CREATE ROLE " + role_ + " LOGIN REPLICATION; GRANT SELECT ON public.m TO " +
                  role_ +
                  "; CREATE PUBLICATION etl_p FOR TABLE public.m WITH "
                  "(publish_via_partition_root = true)"));
  config_.url = server_->ConnInfo(database_) + " user=" + role_;
  config_.tables = "[public.m]";
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  const auto rows = [&](const std::string& what) {
    const Ended ended = space_.Run(
        {"query", "p", "--json", "SELECT count(*) AS n, sum(id) AS s, sum(w) AS w FROM public.m"});
    EXPECT_EQ(ended.out, what) << ended.Describe();
  };
  rows("[{\"n\":8500,\"s\":36129250,\"w\":36129250}]\n");
  const Ended verify = space_.Run({"verify", "p"});
  EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
  (void)Sql("DROP OWNED BY " + role_);
}

TEST_F(ControlE2e, AReloadSwitchesAPipelineOff) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
  config_.pipeline.push_back("enabled: false");
  space_.Write(config_);
  run.Signal(SIGHUP);
  EXPECT_TRUE(Eventually([&] {
    return run.err_so_far().find("no longer enabled") != std::string::npos;
  })) << run.err_so_far();
  EXPECT_TRUE(Eventually([&] {
    return server_->Value(
               "SELECT count(*) FROM pg_replication_slots WHERE active AND slot_name = '" + slot_ +
               "'") == "0";
  }));
  EXPECT_TRUE(run.alive());
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
}

TEST_F(ControlE2e, ATableThatThePipelineDoesNotHaveIsNamed) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  const Ended resync = space_.Run({"pipeline", "resync", "p", "--table", "public.aa", "--yes"});
  EXPECT_EQ(resync.exit_code, 2) << resync.Describe();
  EXPECT_THAT(resync.err, HasSubstr("no table \"public.aa\""));
}

TEST_F(ControlE2e, ALostSlotNamesThePipelineInItsRemedy) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(server_->Exec("SELECT pg_drop_replication_slot('" + slot_ + "')").ok());
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("pipeline resync p"));
}

TEST_F(ControlE2e, SyncNamesEveryPipelineThatFails) {
  config_.tables = "[none.x]";
  config_.pipeline.push_back("enabled: true\n  q: {source: s, destination: d, tables: [none.y]}");
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  for (const char* name : {"p", "q"}) {
    EXPECT_THAT(sync.err, HasSubstr("\nerror ETL-S120: pipeline " + std::string(name) + ": "))
        << sync.Describe();
  }
}

// What was connected stays so; what connects anew, for a table without a key or to compare, does
// not get in with the former password.
TEST_F(ControlE2e, APasswordThatIsChangedIsTakenUp) {
  const auto set_password = [&](const std::string& word) {
    ASSERT_TRUE(Sql("ALTER ROLE " + role_ + " PASSWORD '" + word + "'"));
    space_.WriteFile("word", word);
    std::filesystem::permissions(space_.path("word"), std::filesystem::perms(0600));
  };
  ASSERT_TRUE(
      Sql("CREATE TABLE public.c (v text); INSERT INTO public.c VALUES ('one'); CREATE ROLE " +
          role_ + " LOGIN REPLICATION; GRANT SELECT ON public.a, public.c TO " + role_ +
          "; CREATE PUBLICATION etl_p FOR TABLE public.a, public.c"));
  set_password("one");
  config_.url = server_->TcpConnInfo(database_) + " user=" + role_;
  config_.source = ", password: {file: word}";
  config_.tables = "[public.a, public.c]";
  space_.Write(config_);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; })) << run.err_so_far();
  set_password("two");
  const Ended verify = space_.Run({"verify", "p"});
  EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--table", "public.c", "--yes"}).exit_code, 0);
  EXPECT_TRUE(
      Eventually([&] { return run.err_so_far().find("generation=2") != std::string::npos; }));
  EXPECT_TRUE(Eventually([&] { return Phase() == "running"; })) << Status();
  EXPECT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(TablePhase("public.c"), "live");
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
}

// A wish is kept until the destination has begun the copy, whatever becomes of the process.
class ResyncWish : public ControlE2e {
 protected:
  void SetUp() override {
    ControlE2e::SetUp();
    ASSERT_EQ(space_.Sync().exit_code, 0);
    Damage();
    ASSERT_NE(Different(), "");
  }
  void Damage() {
    const etl::Status done =
        ExecuteDuckDb(space_.duckdb(), "UPDATE copy.public.b SET id = id + 1000");
    ASSERT_TRUE(done.ok()) << ErrorLine(done);
  }
  // Nobody gets to the source until it is there again.
  void WithoutSource() {
    Workspace::Config config = config_;
    config.url += " port=1";
    space_.Write(config);
  }
  static bool BothLive(const Running& run) {
    const std::string log = run.err_so_far();
    const size_t first = log.find("table is live");
    return first != std::string::npos && log.find("table is live", first + 1) != std::string::npos;
  }
};

TEST_F(ResyncWish, OutlivesASyncThatDidNotBegin) {
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  Workspace::Config config = config_;
  config.path = "no/such/folder/copy.duckdb";
  space_.Write(config);
  const Ended failed = space_.Sync();
  EXPECT_NE(failed.exit_code, 0) << failed.Describe();
  space_.Write(config_);
  ExpectEqual();
  // Fulfilled, it is gone.
  Damage();
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_NE(Different(), "");
}

TEST_F(ResyncWish, OutlivesARunnerThatIsKilledBeforeItBegan) {
  WithoutSource();
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "retrying"; })) << Status();
  const Ended wish =
      space_.Run({"pipeline", "resync", "p", "--table", "public.b", "--yes", "--json"});
  EXPECT_EQ(wish.exit_code, 0) << wish.Describe();
  EXPECT_THAT(wish.out, HasSubstr("noted"));
  run.Kill();
  space_.Write(config_);
  Running again = space_.Start({"run"});
  EXPECT_TRUE(Eventually([&] {
    return again.err_so_far().find("table is live") != std::string::npos;
  })) << again.err_so_far();
  again.Signal(SIGTERM);
  EXPECT_EQ(again.Wait(seconds(12)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(ResyncWish, IsAnsweredOnceTheCopyHasBegun) {
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; })) << Status();
  const Ended wish = space_.Run({"pipeline", "resync", "p", "--yes", "--json"});
  EXPECT_THAT(wish.out, HasSubstr("\"done\"")) << wish.Describe();
  ASSERT_TRUE(Eventually([&] { return BothLive(run); })) << run.err_so_far();
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

// A pause that came later stands, also where the wish is still open.
TEST_F(ResyncWish, DoesNotUndoALaterPause) {
  WithoutSource();
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "retrying"; })) << Status();
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  ASSERT_EQ(space_.Run({"pipeline", "pause", "p"}).exit_code, 0);
  run.Kill();
  space_.Write(config_);
  Running again = space_.Start({"run"});
  // Not what the earlier runner saw last.
  ASSERT_TRUE(Eventually([&] {
    return Phase() == "paused" && Status().dump().find("ETL-S101") == std::string::npos;
  })) << Status();
  EXPECT_FALSE(Eventually([&] { return Phase() != "paused"; }, seconds(3))) << Status();
  ASSERT_EQ(space_.Run({"pipeline", "start", "p"}).exit_code, 0);
  ASSERT_TRUE(Eventually([&] { return BothLive(again); })) << again.err_so_far();
  again.Signal(SIGTERM);
  EXPECT_EQ(again.Wait(seconds(12)).exit_code, 0);
  EXPECT_EQ(Different(), "");
}

class TapE2e : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    config_.pipeline.push_back("columns: {public.users: {exclude: [secret]}}");
    space_.Write(config_);
    ASSERT_TRUE(Sql("CREATE TABLE public.users (id int PRIMARY KEY, secret text)"));
    ASSERT_EQ(space_.Sync().exit_code, 0);
  }
  Running StartTap() {
    Running tap = space_.Start({"tap", "p"});
    EXPECT_TRUE(Eventually([&] {
      return tap.err_so_far().find("from now on") != std::string::npos;
    })) << tap.err_so_far();
    return tap;
  }
  // Changes of another table mark the end of what the test made.
  Ended EndAfterMark(Running& tap) {
    EXPECT_TRUE(Sql("INSERT INTO public.mark VALUES (1)"));
    EXPECT_TRUE(Eventually([&] { return tap.out_so_far().find("mark") != std::string::npos; }))
        << tap.err_so_far();
    tap.Signal(SIGINT);
    return tap.Wait(seconds(12));
  }
  // A table that the pipeline knows too, so that nothing is said against it.
  void MakeMark() {
    ASSERT_TRUE(Sql("CREATE TABLE public.mark (id int PRIMARY KEY)"));
    ASSERT_EQ(space_.Sync().exit_code, 0);
  }
};

TEST_F(TapE2e, ATableThatWasRenamedKeepsWhatIsExcluded) {
  MakeMark();
  ASSERT_TRUE(Sql("ALTER TABLE public.users RENAME TO people"));
  Running tap = StartTap();
  ASSERT_TRUE(Sql("INSERT INTO public.people VALUES (1, 'hushhush')"));
  const Ended ended = EndAfterMark(tap);
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_THAT(ended.out, Not(HasSubstr("hushhush")));
  EXPECT_THAT(ended.err, HasSubstr("public.people"));
}

TEST_F(TapE2e, ATableThatIsRenamedMeanwhileKeepsWhatIsExcluded) {
  MakeMark();
  // Nothing is known of the tables but what is seen now.
  std::filesystem::remove(space_.path("catalog.db"));
  Running tap = StartTap();
  ASSERT_TRUE(Sql("INSERT INTO public.users VALUES (1, 'hushhush')"));
  ASSERT_TRUE(
      Sql("ALTER TABLE public.users RENAME TO people; INSERT INTO public.people VALUES (2, "
          "'hushhush')"));
  const Ended ended = EndAfterMark(tap);
  EXPECT_THAT(ended.out, HasSubstr("public.users"));
  EXPECT_THAT(ended.out, Not(HasSubstr("hushhush")));
  EXPECT_THAT(ended.err, HasSubstr("public.people"));
}

TEST_F(TapE2e, ARuleThatNamesNoTableMayBeThatOfAnUnknownOne) {
  MakeMark();
  ASSERT_TRUE(Sql("ALTER TABLE public.users RENAME TO people"));
  // Which table had the rule can no longer be told.
  std::filesystem::remove(space_.path("catalog.db"));
  Running tap = StartTap();
  ASSERT_TRUE(
      Sql("INSERT INTO public.people VALUES (1, 'hushhush'); INSERT INTO public.mark VALUES (1)"));
  EXPECT_TRUE(Eventually([&] { return tap.err_so_far().find("public.mark") != std::string::npos; }))
      << tap.err_so_far();
  tap.Signal(SIGINT);
  const Ended ended = tap.Wait(seconds(12));
  EXPECT_THAT(ended.out, Not(HasSubstr("hushhush")));
  EXPECT_THAT(ended.err, HasSubstr("public.users"));
}

TEST_F(TapE2e, ARenamedTableThatColumnsNamesIsPrintedUnderItsRules) {
  MakeMark();
  ASSERT_TRUE(Sql("ALTER TABLE public.users RENAME TO people"));
  config_.pipeline.back() = "columns: {public.people: {exclude: [secret]}}";
  space_.Write(config_);
  Running tap = StartTap();
  ASSERT_TRUE(Sql("INSERT INTO public.people VALUES (1, 'hushhush')"));
  const Ended ended = EndAfterMark(tap);
  EXPECT_THAT(ended.out, HasSubstr("public.people"));
  EXPECT_THAT(ended.out, Not(HasSubstr("hushhush")));
}

TEST_F(TapE2e, AColumnThatIsRenamedTwiceIsNotPrinted) {
  MakeMark();
  Running tap = StartTap();
  // The catalog shows a third name when the row comes.
  ASSERT_TRUE(
      Sql("BEGIN; ALTER TABLE public.users RENAME secret TO other; INSERT INTO public.users VALUES "
          "(1, 'hushhush'); ALTER TABLE public.users RENAME other TO third; COMMIT"));
  const Ended ended = EndAfterMark(tap);
  EXPECT_THAT(ended.out, Not(HasSubstr("hushhush")));
}

}  // namespace
}  // namespace etl

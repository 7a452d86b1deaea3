// What a person asks of a pipeline that runs: tables tried again, left out, named wrongly; a
// pipeline switched off by a reload.
#include <chrono>
#include <csignal>

#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;

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

}  // namespace
}  // namespace etl

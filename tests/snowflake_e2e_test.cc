// The program, a real server and the emulator of Snowflake, spoken to over TLS.
#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>

#include "support/snowflake_fixture.h"

namespace etl {
namespace {

using nlohmann::json;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

class SnowflakeE2e : public SnowflakeE2eTest {
 protected:
  void MakeTable(int rows) {
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, n numeric(12,3)); INSERT "
            "INTO public.a SELECT i, 'v' || i, i / 7.0 FROM generate_series(1, " +
            std::to_string(rows) + ") i"));
  }
  void Change() {
    ASSERT_TRUE(
        Sql("UPDATE public.a SET v = 'changed' WHERE id % 3 = 0; UPDATE public.a SET id = id + "
            "5000 WHERE id BETWEEN 50 AND 60; DELETE FROM public.a WHERE id BETWEEN 200 AND 210; "
            "INSERT INTO public.a VALUES (200, 'again', 1)"));
  }
  void Configure(const std::string& every, const std::vector<std::string>& lines = {}) {
    config_.destinations = Destination(emulator_->tls_url(), every);
    config_.pipeline.insert(config_.pipeline.end(), lines.begin(), lines.end());
    space_.Write(config_);
  }
  // As many rows as the source has, in the end.
  testing::AssertionResult Catches(const std::string& table = "a") {
    const std::string wanted = Value("SELECT count(*) FROM public." + table);
    if (Eventually([&] { return RowsOf(Target(), "A").size() == std::stoul(wanted); }))
      return testing::AssertionSuccess();
    return testing::AssertionFailure() << RowsOf(Target(), "A").size() << " of " << wanted;
  }
};

TEST_F(SnowflakeE2e, SyncShowsEverythingBeforeItEndsHoweverSeldomMergesAre) {
  Configure("1h");
  MakeTable(1200);
  ASSERT_TRUE(Sql("CREATE TABLE public.empty (id int PRIMARY KEY)"));
  ExpectEqual();
  Change();
  ExpectEqual();
  // Nothing to do.
  ExpectEqual();
  const json status = Status();
  EXPECT_EQ(status.at("applied"), status.at("position")) << status;
}

TEST_F(SnowflakeE2e, SyncWaitsForTheServiceToShowEverything) {
  Configure("1h");
  MakeTable(100);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  Change();
  ExpectEqual();
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(15)).exit_code, 0);
}

TEST_F(SnowflakeE2e, AServiceThatIsKilledAgainAndAgainLosesAndRepeatsNothing) {
  MakeTable(600);
  for (int life = 0; life < 5; ++life) {
    Running run = space_.Start({"run"});
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(
          Sql("UPDATE public.a SET n = n + 1 WHERE id % 5 = " + std::to_string(i % 5) +
              "; INSERT INTO public.a SELECT " + std::to_string(10000 + life * 1000 + i) +
              ", 'more', 0; DELETE FROM public.a WHERE id = " + std::to_string(1 + life * 20 + i)));
      std::this_thread::sleep_for(std::chrono::milliseconds(30 + 40 * life));
    }
    EXPECT_EQ(run.Kill().signal, SIGKILL);
  }
  ExpectEqual();
}

TEST_F(SnowflakeE2e, AppendKeepsEveryChangeOnceThroughKills) {
  config_.pipeline = {"slot: " + slot_, "batch: {max_rows: 200, max_delay: 20ms}"};
  Configure("1s", {"mode: append", "snapshot: {enabled: false}"});
  ASSERT_TRUE(Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text)"));
  const Ended sync = space_.Sync();
  ASSERT_EQ(sync.exit_code, 0) << sync.Describe();
  int changes = 0;
  for (int life = 0; life < 4; ++life) {
    Running run = space_.Start({"run"});
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(Sql("INSERT INTO public.a SELECT i, 'x' FROM generate_series(" +
                      std::to_string(changes + 1) + ", " + std::to_string(changes + 20) + ") i"));
      changes += 20;
      std::this_thread::sleep_for(std::chrono::milliseconds(30 + 50 * life));
    }
    run.Kill();
  }
  ASSERT_TRUE(Sql("DELETE FROM public.a WHERE id <= 7"));
  const Ended again = space_.Sync();
  ASSERT_EQ(again.exit_code, 0) << again.Describe();
  const auto counts =
      emulator_->Sql("SELECT _ETL_OP, COUNT(*), COUNT(DISTINCT _ETL_POSITION) FROM DB." +
                     Landing() + ".LANDING_A GROUP BY 1 ORDER BY 1");
  const std::string all = std::to_string(changes);
  EXPECT_EQ(counts, json::parse(R"([["D","7","7"],["I",")" + all + R"(",")" + all + R"("]])"));
}

TEST_F(SnowflakeE2e, APausedPipelineShowsNothingNewUntilItIsStarted) {
  MakeTable(50);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  ASSERT_EQ(space_.Run({"pipeline", "pause", "p"}).exit_code, 0);
  ASSERT_TRUE(Eventually([&] { return Phase() == "paused"; }));
  ASSERT_TRUE(Sql("INSERT INTO public.a SELECT i, 'new', 0 FROM generate_series(1000, 1009) i"));
  std::this_thread::sleep_for(seconds(2));
  EXPECT_EQ(RowsOf(Target(), "A").size(), 50u);
  ASSERT_EQ(space_.Run({"pipeline", "start", "p"}).exit_code, 0);
  EXPECT_TRUE(Catches());
  run.Signal(SIGTERM);
  const Ended ended = run.Wait(seconds(15));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_EQ(Different(), "");
}

TEST_F(SnowflakeE2e, ResyncTakesTheTargetBackToTheSource) {
  MakeTable(300);
  ExpectEqual();
  emulator_->Sql("DELETE FROM DB." + Target() + ".A WHERE ID < 100");
  EXPECT_NE(Different(), "");
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--table", "public.a", "--yes"}).exit_code, 0);
  ExpectEqual();
}

TEST_F(SnowflakeE2e, DropTakesTheBookkeepingAndLeavesTheTables) {
  MakeTable(50);
  ExpectEqual();
  const Ended drop = space_.Run({"pipeline", "drop", "p", "--yes"});
  EXPECT_EQ(drop.exit_code, 0) << drop.Describe();
  EXPECT_EQ(Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"),
            "0");
  EXPECT_EQ(RowsOf(Target(), "A").size(), 50u);
  EXPECT_THAT(TablesOf(Landing()), Not(HasSubstr("LANDING_A")));
  EXPECT_EQ(emulator_->Sql("SELECT COUNT(*) FROM DB." + Landing() + "._ETL_PROGRESS"),
            json::parse(R"([["0"]])"));
}

TEST_F(SnowflakeE2e, AKeyThatTheUserDoesNotHaveIsRefused) {
  MakeTable(5);
  std::filesystem::remove(space_.path("etl.p8"));
  ASSERT_TRUE(TestKey(1)->WriteFile(space_.path("etl.p8"), Secret()).ok());
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 77) << sync.Describe();
}

TEST_F(SnowflakeE2e, AKeyThatCannotBeReadIsAMistakeOfTheConfiguration) {
  MakeTable(5);
  std::filesystem::remove(space_.path("etl.p8"));
  Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("etl.p8"));
  space_.WriteFile("etl.p8", "not a key\n");
  std::filesystem::permissions(space_.path("etl.p8"), std::filesystem::perms::owner_read);
  sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
  EXPECT_EQ(space_.Run({"run"}).exit_code, 78);
  EXPECT_EQ(Value("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'"),
            "0")
      << "something was touched";
}

TEST_F(SnowflakeE2e, AnAccountThatIsNeverReachedIsToldApart) {
  MakeTable(5);
  config_.destinations = Destination("http://127.0.0.1:1");
  space_.Write(config_);
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 69) << sync.Describe();
  // A service goes on trying, and ends when it is told to.
  Running run = space_.Start({"run"});
  EXPECT_TRUE(Eventually([&] { return Phase() == "retrying"; }));
  std::this_thread::sleep_for(seconds(2));
  EXPECT_TRUE(run.alive());
  run.Signal(SIGTERM);
  const Ended ended = run.Wait(seconds(15));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_LT(ended.seconds, 20);
}

TEST_F(SnowflakeE2e, ANewKeyFileIsTakenUpWithoutANewStart) {
  MakeTable(50);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  // As `key rotate` does it: the new key is registered beside the old one, the file replaced, and
  // the old key taken away.
  emulator_->Control(
      "setup", json{{"users", {{"ETL_USER", {{"rsa_public_key_2", TestKey(1)->public_key()}}}}}});
  ASSERT_TRUE(TestKey(1)->WriteFile(space_.path("new.p8"), Secret()).ok());
  std::filesystem::rename(space_.path("new.p8"), space_.path("etl.p8"));
  run.Signal(SIGHUP);
  std::this_thread::sleep_for(seconds(6));
  emulator_->Control("setup", json{{"users", {{"ETL_USER", {{"rsa_public_key", ""}}}}}});
  emulator_->Control("tokens", json::object());
  Change();
  EXPECT_TRUE(Eventually([&] { return Different().empty(); })) << Different();
  run.Signal(SIGTERM);
  const Ended ended = run.Wait(seconds(15));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_THAT(ended.err, Not(HasSubstr("will be started again")));
  emulator_->Control(
      "setup", json{{"users",
                     {{"ETL_USER",
                       {{"rsa_public_key", TestKey()->public_key()}, {"rsa_public_key_2", ""}}}}}});
}

TEST_F(SnowflakeE2e, QueryPointsToSnowflakesOwnClients) {
  const Ended query = space_.Run({"query", "p", "SELECT 1"});
  EXPECT_EQ(query.exit_code, 2) << query.Describe();
  EXPECT_THAT(query.err, HasSubstr("clients"));
}

}  // namespace
}  // namespace etl

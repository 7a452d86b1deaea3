// The program, a real server and the emulator of Snowflake, spoken to over TLS.
#include <csignal>
#include <filesystem>

#include <gmock/gmock.h>

#include "support/snowflake_fixture.h"

namespace etl {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
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
  ASSERT_TRUE(Sql("CREATE TABLE public.empty (id int PRIMARY KEY, n int NOT NULL UNIQUE)"));
  ExpectEqual();
  Change();
  ExpectEqual();
  const json used = Status();
  EXPECT_EQ(used.at("tables").at(0).at("rows_merged"), used.at("used").at("rows_merged")) << used;
  EXPECT_GT(used.at("used").at("rows_merged"), 400) << used;
  EXPECT_EQ(used.at("tables").at(1).at("rows_merged"), 0) << used;
  EXPECT_THAT(space_.Run({"status"}).out, HasSubstr("MERGED"));
  // Nothing to do.
  ExpectEqual();
  const json status = Status();
  EXPECT_EQ(status.at("applied"), status.at("position")) << status;
  // The key changes right behind changes of rows.
  ASSERT_TRUE(Sql("INSERT INTO public.empty VALUES (1, 7), (2, 8), (3, 9)"));
  ASSERT_TRUE(Sql("UPDATE public.empty SET n = 70 WHERE id = 1"));
  ASSERT_TRUE(Sql("ALTER TABLE public.empty REPLICA IDENTITY USING INDEX empty_n_key"));
  ASSERT_TRUE(Sql("UPDATE public.empty SET id = 5 WHERE n = 70"));
  ASSERT_TRUE(Sql("DELETE FROM public.empty WHERE n = 8"));
  ExpectEqual();
}

TEST_F(SnowflakeE2e, SyncWaitsForTheServiceToShowEverything) {
  Configure("1h");
  MakeTable(100);
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  Change();
  ExpectEqual();
  // The first merge behind a copy is due at once; this one would be an hour later.
  ASSERT_TRUE(Sql("DELETE FROM public.a WHERE id < 30"));
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

TEST_F(SnowflakeE2e, AppendIsVerifiedBehindCopies) {
  Configure("1s", {"mode: append"});
  MakeTable(200);
  const auto verify = [&](int code) {
    const Ended ended = space_.Run({"verify", "p", "--json"});
    EXPECT_EQ(ended.exit_code, code) << ended.Describe();
    return ended.out;
  };
  verify(0);
  Change();
  verify(0);
  emulator_->Sql("DELETE FROM DB." + Landing() + ".LANDING_A WHERE ID = 7");
  EXPECT_THAT(verify(1), HasSubstr("7 (missing)"));
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  // A warehouse takes its time: more than a pipeline that starts would give it.
  emulator_->Control("faults",
                     json{{"faults",
                           {{{"match", {{"path", "/api/v2/statements"}, {"body", "LANDING_A"}}},
                             {"answer_delay", 6}}}}});
  EXPECT_THAT(verify(0), HasSubstr(R"("source_rows":200)"));
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

TEST_F(SnowflakeE2e, AnAccountThatSaysNothingKeepsNoServiceFromEnding) {
  config_.top = {"limits: {shutdown: 1s}"};
  Configure("1s, by: task");
  MakeTable(50);
  const auto ends = [&](Running& run) {
    run.Signal(SIGTERM);
    const Ended ended = run.Wait(seconds(10));
    EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  };
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  emulator_->Signal(SIGSTOP);
  EXPECT_TRUE(Sql("INSERT INTO public.a SELECT max(id) + 1, 'new', 0 FROM public.a"));
  std::this_thread::sleep_for(seconds(1));
  ends(run);
  // One that waits for the account from its start on.
  Running other = space_.Start({"run"});
  std::this_thread::sleep_for(milliseconds(500));
  ends(other);
  emulator_->Signal(SIGCONT);
  ExpectEqual();
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

TEST_F(SnowflakeE2e, EveryTypeReadsBackAsTheSameValue) {
  config_.pipeline.emplace_back("on_unrepresentable: 'null'");
  space_.Write(config_);
  ASSERT_TRUE(Sql(
      "CREATE TYPE public.mood AS ENUM ('sad', 'very happy'); CREATE TYPE public.pair AS (\"B\" "
      "int, "
      "a text, n numeric, d date[]); CREATE DOMAIN public.cents AS numeric(10,2); CREATE TABLE "
      "public.t (id int PRIMARY KEY, bo bool, i2 int2, i4 int4, i8 int8, o oid, f4 float4, f8 "
      "float8, n numeric(12,3), n38 numeric(38,38), nn numeric, mo money, te text, vc varchar(9), "
      "na name, ch \"char\", bp char(5), x xml, en public.mood, by bytea, u uuid, j json, jb "
      "jsonb, "
      "d date, ts timestamp, tz timestamptz, ti time, ttz timetz, iv interval, ia int[], ta "
      "text[][], fa float4[], na2 numeric(10,2)[], da timestamptz[], ba bytea[], ja jsonb[], iva "
      "interval[], bo2 bool[], ua uuid[], co public.pair, coa public.pair[], ce public.cents, "
      "ip inet, r int4range, bi varbit(9), pt point, ls pg_lsn)"));
  ASSERT_TRUE(Sql(
      "INSERT INTO public.t SELECT 1, true, -32768, 2147483647, -9223372036854775808, 4294967295, "
      "0.1, 5e-324, -123456789.001, 0.12345678901234567890123456789012345678, "
      "'-12345678901234567890123456789012345678901234567890.50', 12.5, E'tab\\t \\\\ \\n 🦆 "
      "\"q\"', '', "
      "'name', 'c', 'ab', '<a/>', 'very happy', '\\x00ff0a', "
      "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', "
      "'{ \"b\" : 1,\"b\":1.10}', '{\"k\": [1.50, null]}', '0001-01-01', '9999-12-31 "
      "23:59:59.999999', '1969-12-31 23:59:59.999999+00', '23:59:59.999999', '12:00:00.5+02:30', "
      "'-1 year 2 mons -3 days 04:05:06.7', '{1,NULL,-3}', '{{a,\"b,c\"},{NULL,\"\"}}', "
      "'{0.1,NaN,-Infinity,1e38}', '{1.50,-0.01}', '{infinity,\"2020-01-01 "
      "00:00:00.000001+00\",\"0044-03-15 "
      "00:00:00+00 BC\"}', '{\"\\\\x00ff\",\"\\\\x\"}', ARRAY['{\"a\": 1.10}'::jsonb], '{1 "
      "day,-00:00:00.000001}', "
      "'{t,f,NULL}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}', ROW(7, 'x\"y', 1e40, "
      "'{2020-01-01,-infinity}'::date[])::public.pair, ARRAY[ROW(NULL, NULL, NULL, "
      "NULL)::public.pair, NULL], 12.34, "
      "'10.0.0.1/8', '[1,5)', '101', '(1,2.5)', '0/16B3748'; INSERT INTO public.t (id) VALUES (2); "
      // What Snowflake cannot hold, and what DuckDB would.
      "INSERT INTO public.t (id, f4, f8, d, ts, tz, ti, ia) VALUES (3, 'NaN', '-Infinity', "
      "'infinity', '-infinity', '10000-01-01+00', '24:00', '{}')"));
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  const Ended verify = space_.Run({"verify", "p", "--json"});
  EXPECT_EQ(verify.exit_code, 0) << verify.Describe();
  EXPECT_EQ(RowsOf(Target(), "T").size(), 3u);
}

TEST_F(SnowflakeE2e, VerifyNamesTheKeysThatDifferBesideARunningService) {
  MakeTable(3000);
  ASSERT_TRUE(Sql("CREATE TABLE public.b (id int PRIMARY KEY)"));
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Catches());
  EXPECT_EQ(space_.Run({"verify", "p"}).exit_code, 0);
  emulator_->Sql("DELETE FROM DB." + Target() + ".A WHERE ID = 77; UPDATE DB." + Target() +
                 ".A SET V = 'other' WHERE ID = 2500; INSERT INTO DB." + Target() +
                 ".A (ID) VALUES (-5)");
  const Ended verify = space_.Run({"verify", "p", "--json"});
  EXPECT_EQ(verify.exit_code, 1) << verify.Describe();
  const json report = json::parse(verify.out, nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << verify.Describe();
  const json& table_a = report.at("tables").at(0);
  ASSERT_EQ(table_a.at("name"), "public.a") << report;
  std::vector<std::string> keys = table_a.at("keys");
  EXPECT_THAT(
      keys, testing::UnorderedElementsAre(HasSubstr("77 (missing)"), HasSubstr("2500 (different)"),
                                          HasSubstr("-5 (extra)")));
  // It went on afterwards.
  ASSERT_TRUE(Sql("UPDATE public.a SET v = 'again' WHERE id = 1"));
  EXPECT_TRUE(Eventually([&] {
    return emulator_->Sql("SELECT V FROM DB." + Target() + ".A WHERE ID = 1").dump() ==
           R"([["again"]])";
  }));
  // Each under the name that it has by now.
  ASSERT_TRUE(Sql("ALTER TABLE public.a RENAME TO z; ALTER TABLE public.b RENAME TO a"));
  const Ended renamed = space_.Run({"verify", "p", "--json"});
  const json second = json::parse(renamed.out, nullptr, false);
  ASSERT_FALSE(second.is_discarded()) << renamed.Describe();
  for (const json& table : second.at("tables")) {
    const bool old = table.at("name") == "public.z";
    EXPECT_EQ(table.at("source_rows"), old ? 3000 : 0) << second;
    EXPECT_EQ(table.at("keys").size(), old ? 3u : 0u) << second;
  }
  EXPECT_EQ(second.at("tables").size(), 2u);
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(15)).exit_code, 0);
}

TEST_F(SnowflakeE2e, QueryPointsToSnowflakesOwnClients) {
  const Ended query = space_.Run({"query", "p", "SELECT 1"});
  EXPECT_EQ(query.exit_code, 2) << query.Describe();
  EXPECT_THAT(query.err, HasSubstr("clients"));
}

}  // namespace
}  // namespace etl

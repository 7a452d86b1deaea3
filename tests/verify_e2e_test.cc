// `verify`: what was changed in the file by hand is found.
#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include <gmock/gmock.h>
#include <libpq-fe.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

/// A client whose transaction stays open between statements.
class Session {
 public:
  explicit Session(const std::string& conninfo) : connection_(PQconnectdb(conninfo.c_str())) {}
  ~Session() { PQfinish(connection_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  void Do(const std::string& sql) {
    PGresult* result = PQexec(connection_, sql.c_str());
    EXPECT_EQ(PQresultStatus(result), PGRES_COMMAND_OK)
        << sql << ": " << PQerrorMessage(connection_);
    PQclear(result);
  }
  std::string pid() const { return std::to_string(PQbackendPID(connection_)); }

 private:
  PGconn* connection_;
};

class VerifyMirror : public E2eTest {
 protected:
  json Verify(int exit_code) {
    const Ended verify = space_.Run({"verify", "p", "--json"});
    EXPECT_EQ(verify.exit_code, exit_code) << verify.Describe();
    json report = json::parse(verify.out, nullptr, false);
    EXPECT_FALSE(report.is_discarded()) << verify.Describe();
    return report;
  }
  static json Table(const json& report, const std::string& name) {
    for (const json& table : report.value("tables", json::array()))
      if (table.at("name") == name) return table;
    return json{{"equal", "no such table"}, {"keys", json::array()}, {"note", ""}};
  }
  static std::vector<std::string> Keys(const json& table) { return table.at("keys"); }
  void Damage(const std::string& sql) {
    const etl::Status done = ExecuteDuckDb(space_.duckdb(), sql);
    ASSERT_TRUE(done.ok()) << ErrorLine(done);
  }
};

class VerifyAppend : public VerifyMirror {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    config_.pipeline.push_back("mode: append");
    space_.Write(config_);
    // Stored out of line, so that an update of another column does not send it.
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, big text); ALTER TABLE public.a "
            "ALTER big SET STORAGE EXTERNAL; INSERT INTO public.a SELECT i, 'v' || i, "
            "repeat(md5(i::text), 200) FROM generate_series(1, 1200) i; CREATE TABLE public.b "
            "(part text, id int, v numeric, PRIMARY KEY (id, part)); INSERT INTO public.b SELECT "
            "'p', i, i / 3.0 FROM generate_series(1, 30) i; CREATE TABLE public.c (v text); "
            "INSERT INTO public.c VALUES ('one'), ('one')"));
  }
  void Change() {
    ASSERT_TRUE(
        Sql("UPDATE public.a SET v = 'changed' WHERE id <= 100; UPDATE public.a SET id = id + "
            "5000 WHERE id BETWEEN 50 AND 60; DELETE FROM public.a WHERE id BETWEEN 200 AND 210; "
            "INSERT INTO public.a VALUES (200, 'again', 'small'), (55, 'taken', NULL); UPDATE "
            "public.a SET v = 'twice' WHERE id > 5000; TRUNCATE public.b; INSERT INTO public.b "
            "VALUES ('p', 1, 1.5), ('q', 1, NULL); INSERT INTO public.c VALUES ('two')"));
  }
};

class VerifyBesideAWriter : public VerifyMirror {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text); INSERT INTO public.a SELECT i, "
            "'v' || i FROM generate_series(1, 1200) i; CREATE TABLE other (v text)"));
    config_.tables = "[public.a]";
    space_.Write(config_);
    ASSERT_EQ(space_.Sync().exit_code, 0);
  }
  // Whether what is committed now is stored before long.
  bool GoesOn() {
    EXPECT_TRUE(Sql("INSERT INTO public.a SELECT max(id) + 1, 'goes on' FROM public.a"));
    const std::string end = Value("SELECT pg_current_wal_insert_lsn()");
    return Eventually([&] {
      const json position = Status().at("position");
      return position.is_string() && Value("SELECT '" + position.get<std::string>() +
                                           "'::pg_lsn >= '" + end + "'::pg_lsn") == "t";
    });
  }
};

TEST_F(VerifyBesideAWriter, ThePipelineGoesOnWhileVerifyWaitsForAnOpenTransaction) {
  config_.pipeline.back() = "retry: {max_delay: 500ms, give_up: 1m}";
  space_.Write(config_);
  Running service = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  Session writer(server_->ConnInfo(database_));
  writer.Do("BEGIN");
  writer.Do("INSERT INTO other VALUES ('open')");
  Running verify = space_.Start({"verify", "p", "--json"});
  EXPECT_TRUE(Eventually([&] {
    return verify.err_so_far().find("pid " + writer.pid()) != std::string::npos;
  })) << verify.err_so_far();
  EXPECT_TRUE(GoesOn()) << Status();
  EXPECT_TRUE(GoesOn()) << Status();
  EXPECT_TRUE(verify.alive());
  writer.Do("COMMIT");
  EXPECT_TRUE(GoesOn()) << Status();
  const Ended ended = verify.Wait(std::chrono::seconds(40));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  const json report = json::parse(ended.out, nullptr, false);
  EXPECT_GE(Table(report, "public.a").value("source_rows", 0), 1202) << report;
  service.Signal(SIGTERM);
  EXPECT_EQ(service.Wait(std::chrono::seconds(10)).exit_code, 0);
}

TEST_F(VerifyBesideAWriter, ATransactionThatDoesNotEndIsNamed) {
  Session writer(server_->ConnInfo(database_));
  writer.Do("BEGIN");
  writer.Do("INSERT INTO other VALUES ('open')");
  const Ended verify = space_.Run({"verify", "p"});
  EXPECT_EQ(verify.exit_code, 75) << verify.Describe();
  EXPECT_THAT(verify.err, HasSubstr("ETL-V005")) << verify.Describe();
  EXPECT_THAT(verify.err, HasSubstr("pid " + writer.pid()));
  EXPECT_LT(verify.seconds, 30);
  // Nothing holds it up any more.
  writer.Do("COMMIT");
  EXPECT_EQ(Verify(0).at("equal"), true);
}

// Transactions that come and go, each open for longer than a look takes.
TEST_F(VerifyBesideAWriter, WritersThatOverlapDoNotMakeADifference) {
  config_.pipeline.back() = "retry: {max_delay: 500ms, give_up: 1m}";
  space_.Write(config_);
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (int number = 0; number < 3; ++number) {
    writers.emplace_back([&, number] {
      Session writer(server_->ConnInfo(database_));
      for (int i = 0; !stop; ++i) {
        writer.Do("BEGIN");
        writer.Do("INSERT INTO public.a VALUES (" + std::to_string(10000 * (number + 1) + i) +
                  ", 'x')");
        std::this_thread::sleep_for(std::chrono::milliseconds(300 + 70 * number));
        writer.Do("UPDATE public.a SET v = v || 'y' WHERE id = " + std::to_string(i % 1000 + 1));
        writer.Do("COMMIT");
      }
    });
  }
  const json report = Verify(0);
  EXPECT_EQ(report.at("equal"), true) << report;
  stop = true;
  for (std::thread& writer : writers) writer.join();
}

// While verify waits the names change hands, and the pipeline may not have looked yet.
TEST_F(VerifyBesideAWriter, TablesThatSwapNamesAreNotComparedWithEachOther) {
  ASSERT_TRUE(Sql("CREATE TABLE public.c (id int PRIMARY KEY, v text)"));
  config_.tables = "[public.a, public.c]";
  config_.pipeline.back() = "retry: {max_delay: 500ms, give_up: 1m}";
  space_.Write(config_);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Session writer(server_->ConnInfo(database_));
  writer.Do("BEGIN");
  writer.Do("INSERT INTO other VALUES ('open')");
  Running verify = space_.Start({"verify", "p", "--json"});
  EXPECT_TRUE(Eventually([&] {
    return verify.err_so_far().find("pid " + writer.pid()) != std::string::npos;
  })) << verify.err_so_far();
  ASSERT_TRUE(Sql(
      "ALTER TABLE public.a RENAME TO x; ALTER TABLE public.c RENAME TO a; ALTER TABLE public.x "
      "RENAME TO c"));
  writer.Do("COMMIT");
  const Ended ended = verify.Wait(std::chrono::seconds(40));
  const json report = json::parse(ended.out, nullptr, false);
  ASSERT_FALSE(report.is_discarded()) << ended.Describe();
  for (const json& table : report.at("tables")) EXPECT_TRUE(table.at("keys").empty()) << report;
}

TEST_F(VerifyMirror, DifferencesMadeByHandAreFoundAndTheirKeysNamed) {
  ASSERT_TRUE(
      Sql("CREATE TABLE public.a (id int PRIMARY KEY, v text, w text); INSERT INTO public.a SELECT "
          "i, 'v' || i, 'w' FROM generate_series(1, 1200) i; CREATE TABLE public.b (v text); "
          "ALTER TABLE public.b REPLICA IDENTITY FULL; INSERT INTO public.b VALUES ('one')"));
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Verify(0).at("equal"), true);
  Damage(
      "UPDATE copy.public.a SET v = 'by hand' WHERE id = 700; DELETE FROM copy.public.a WHERE id "
      "= 800; INSERT INTO copy.public.a VALUES (5000, 'by hand', 'w'); UPDATE copy.public.b SET v "
      "= 'two'");
  const json report = Verify(1);
  EXPECT_EQ(report.at("equal"), false);
  EXPECT_THAT(Keys(Table(report, "public.a")),
              testing::UnorderedElementsAre("700 (different)", "800 (missing)", "5000 (extra)"));
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("v")) << report;
  EXPECT_EQ(Table(report, "public.b").at("equal"), false) << report;
  EXPECT_THAT(Table(report, "public.b").at("note").dump(), HasSubstr("no key")) << report;
}

// No finite timestamp of DuckDB's is as late; an interval may have more than its time holds.
TEST_F(VerifyMirror, ValuesThatBecameNullAreCountedAndNoDifference) {
  config_.pipeline.push_back("on_unrepresentable: 'null'");
  space_.Write(config_);
  ASSERT_TRUE(
      Sql("CREATE TABLE public.a (id int PRIMARY KEY, t timestamp); INSERT INTO public.a VALUES "
          "(1, '294276-12-31'), (2, '294276-12-31'), (3, '2024-01-01')"));
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Status().at("tables").at(0).value("nulled", -1), 2) << Status();
  ASSERT_TRUE(Sql(
      "INSERT INTO public.a VALUES (4, '294276-12-31'); UPDATE public.a SET t = NULL WHERE id = "
      "1"));
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").value("nulled", -1), 2) << report;
  EXPECT_EQ(Table(report, "public.a").at("equal"), true) << report;
  // What was counted before goes on, from one process to the next.
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Status().at("tables").at(0).value("nulled", -1), 3) << Status();
  const Ended status = space_.Run({"status"});
  EXPECT_THAT(status.out, HasSubstr("NULLED")) << status.Describe();
  const Ended verify = space_.Run({"verify", "p"});
  EXPECT_THAT(verify.out, HasSubstr("2 values")) << verify.Describe();
  // A new copy is counted anew.
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  EXPECT_EQ(Status().at("tables").at(0).value("nulled", -1), 2) << Status();
}

TEST_F(VerifyAppend, TheLatestRowsAreTheSourcesTables) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  const json report = Verify(0);
  EXPECT_EQ(report.at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.a").at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.a").at("source_rows"), 1191) << report;
  EXPECT_EQ(Table(report, "public.a").at("destination_rows"), 1191) << report;
  EXPECT_EQ(Table(report, "public.b").at("equal"), true) << report;
  EXPECT_EQ(Table(report, "public.b").at("source_rows"), 2) << report;
  EXPECT_EQ(Table(report, "public.c").at("equal"), nullptr) << report;
  EXPECT_THAT(Table(report, "public.c").at("note").dump(), HasSubstr("key")) << report;
}

TEST_F(VerifyAppend, DifferencesMadeByHandAreFoundAndTheirKeysNamed) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Damage(
      "UPDATE copy.public.a SET v = 'by hand' WHERE id = 700; UPDATE copy.public.a SET big = "
      "'by hand' WHERE id = 52 AND _etl_op = 'r'; DELETE FROM copy.public.a WHERE id = 800; "
      "INSERT INTO copy.public.b(part, id, v, _etl_op, _etl_lsn, _etl_seq) VALUES ('z', 7, 1, "
      "'i', 18446744073709551615, 0)");
  const json report = Verify(1);
  EXPECT_EQ(report.at("equal"), false);
  EXPECT_THAT(Keys(Table(report, "public.a")),
              testing::UnorderedElementsAre("700 (different)", "5052 (different)", "800 (missing)"))
      << report;
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("big")) << report;
  EXPECT_THAT(Table(report, "public.b").at("keys").dump(), HasSubstr("z")) << report;
  EXPECT_EQ(Table(report, "public.c").at("equal"), nullptr);
}

TEST_F(VerifyAppend, TheServiceThatRunsThePipelineCompares) {
  Running service = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  Change();
  EXPECT_EQ(Verify(0).at("equal"), true);
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (9000, 'goes on', NULL)"));
  EXPECT_EQ(Table(Verify(0), "public.a").at("source_rows"), 1192);
  service.Signal(SIGTERM);
  EXPECT_EQ(service.Wait(std::chrono::seconds(10)).exit_code, 0);
}

TEST_F(VerifyAppend, AColumnThatComesAndOneThatIsRenamedDoNotMakeADifference) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(
      Sql("ALTER TABLE public.a ADD n int DEFAULT 7; ALTER TABLE public.a RENAME big TO large; "
          "UPDATE public.a SET n = 8 WHERE id = 5052; INSERT INTO public.a VALUES (9000, 'x', "
          "'y', 9)"));
  const json report = Verify(0);
  EXPECT_EQ(report.at("equal"), true) << report;
}

TEST_F(VerifyAppend, AfterAResyncEarlierChangesDoNotCount) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(Sql("SELECT pg_drop_replication_slot('" + slot_ + "')"));
  // Nobody will ever see this delete.
  ASSERT_TRUE(Sql("DELETE FROM public.a WHERE id = 5"));
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--yes"}).exit_code, 0);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").at("destination_rows"), 1199) << report;
}

// While the table is copied one row changes its key and another takes the key: what the chunks show
// of the old key is the other row. The value that the change of key did not send is read again.
TEST_F(VerifyAppend, AKeyThatIsTakenWhileTheTableIsCopiedDoesNotLendItsValues) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Session writer(server_->ConnInfo(database_));
  writer.Do("BEGIN");
  writer.Do("UPDATE public.a SET v = 'held' WHERE id = 1");
  ASSERT_EQ(space_.Run({"pipeline", "resync", "p", "--table", "public.a", "--yes"}).exit_code, 0);
  Running sync = space_.Start({"sync"});
  const auto waits = [&] {
    const json status = Status();
    for (const json& table : status.at("tables"))
      if (table.at("name") == "public.a") return table.at("error").dump();
    return std::string();
  };
  ASSERT_TRUE(Eventually([&] { return waits().find("waits for pid") != std::string::npos; }))
      << Status();
  ASSERT_TRUE(Sql("UPDATE public.a SET id = 5005 WHERE id = 5"));
  ASSERT_TRUE(
      Sql("INSERT INTO public.a VALUES (5, 'taken', repeat('x', 6000)); UPDATE public.a SET v = "
          "'moved' WHERE id = 5005"));
  writer.Do("COMMIT");
  const Ended synced = sync.Wait(std::chrono::seconds(40));
  EXPECT_EQ(synced.exit_code, 0) << synced.Describe();
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").at("equal"), true) << report;
  // A later change that does not send the value either finds it there.
  ASSERT_TRUE(Sql("UPDATE public.a SET v = 'again' WHERE id = 5005"));
  EXPECT_EQ(Table(Verify(0), "public.a").at("equal"), true) << report;
}

TEST_F(VerifyAppend, WithoutASnapshotNothingIsCompared) {
  config_.pipeline[1] = "snapshot: {enabled: false}";
  space_.Write(config_);
  ASSERT_EQ(space_.Sync().exit_code, 0);
  Change();
  const json report = Verify(0);
  EXPECT_EQ(Table(report, "public.a").at("equal"), nullptr) << report;
  EXPECT_THAT(Table(report, "public.a").at("note").dump(), HasSubstr("snapshot")) << report;
}

}  // namespace
}  // namespace etl

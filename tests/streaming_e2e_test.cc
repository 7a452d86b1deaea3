// Transactions that are sent while they are still open: interleaved, rolled back in part or whole,
// larger than memory, larger than the disk they may use, and cut short by kill -9.
#include <csignal>
#include <filesystem>
#include <memory>

#include <gmock/gmock.h>
#include <libpq-fe.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
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
    const ExecStatusType status = PQresultStatus(result);
    EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
        << sql << ": " << PQerrorMessage(connection_);
    PQclear(result);
  }

 private:
  PGconn* connection_;
};

class Streaming : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    // The smallest there is: about a hundred rows, and the server streams.
    ASSERT_TRUE(
        server_->Exec("ALTER DATABASE " + database_ + " SET logical_decoding_work_mem = '64kB'")
            .ok());
    ASSERT_TRUE(
        Sql("CREATE TABLE public.a (id int PRIMARY KEY, n int, v text); ALTER TABLE public.a ALTER "
            "v SET STORAGE EXTERNAL; INSERT INTO public.a SELECT i, i, repeat(md5(i::text), 100) "
            "FROM generate_series(1, 500) i; CREATE TABLE public.b (id int PRIMARY KEY, v text); "
            "INSERT INTO public.b SELECT i, i FROM generate_series(1, 500) i"));
    fs::create_directory(space_.path("spill"));
    Limit("10GiB");
  }
  /// The least memory there is, of which open transactions get 4 MiB, and this much disk.
  void Limit(const std::string& spill) {
    config_.top = {"limits: {memory: 64MiB, spill: " + spill + ", spill_dir: spill}"};
    space_.Write(config_);
  }
  std::unique_ptr<Session> Open() {
    auto session = std::make_unique<Session>(server_->ConnInfo(database_));
    session->Do("BEGIN");
    return session;
  }
  static std::string Rows(const std::string& table, int first, int last, int bytes = 100) {
    const std::string columns = table == "a" ? "i, i, " : "i, ";
    return "INSERT INTO public." + table + " SELECT " + columns + "repeat('x', " +
           std::to_string(bytes) + ") FROM generate_series(" + std::to_string(first) + ", " +
           std::to_string(last) + ") i";
  }
  testing::AssertionResult IsStreamed() {
    const std::string sql =
        "SELECT stream_bytes > 0 FROM pg_stat_replication_slots WHERE slot_name = '" + slot_ + "'";
    if (Eventually([&] { return server_->Value(sql) == "t"; })) return testing::AssertionSuccess();
    return testing::AssertionFailure() << "the server never streamed: " << server_->Value(sql);
  }
  bool SpillFolderIsEmpty() const {
    for (const auto& entry : fs::directory_iterator(space_.path("spill")))
      if (!entry.is_directory()) return false;  // DuckDB's own folder may stay.
    return true;
  }
  Running RunLive() {
    Running run = space_.Start({"run"});
    EXPECT_TRUE(Eventually([&] { return Phase() == "running"; }, seconds(60)));
    return run;
  }
};

TEST_F(Streaming, InterleavedTransactionsAndRolledBackSavepoints) {
  Running run = RunLive();
  const auto a = Open();
  const auto b = Open();
  const auto gone = Open();
  a->Do(Rows("a", 1000, 3000));
  b->Do(Rows("b", 1000, 3000));
  gone->Do(Rows("a", 100000, 103000));
  ASSERT_TRUE(IsStreamed());
  a->Do("SAVEPOINT one");
  a->Do(Rows("a", 4000, 6000));
  a->Do("SAVEPOINT two");
  a->Do("UPDATE public.a SET n = -n WHERE id < 300");
  b->Do("DELETE FROM public.b WHERE id < 200");
  a->Do("ROLLBACK TO two");
  a->Do("UPDATE public.a SET v = 'kept' WHERE id BETWEEN 300 AND 400");
  a->Do("SAVEPOINT three");
  a->Do(Rows("a", 7000, 9000));
  a->Do("RELEASE three");
  a->Do("ROLLBACK TO one");
  a->Do("UPDATE public.a SET id = id + 20000 WHERE id BETWEEN 1000 AND 1500");
  b->Do("SAVEPOINT four");
  b->Do(Rows("b", 4000, 6000));
  b->Do("RELEASE four");
  gone->Do("UPDATE public.a SET n = 0 WHERE id > 100000");
  gone->Do("ROLLBACK");
  b->Do("COMMIT");
  a->Do(Rows("a", 9000, 9500));
  a->Do("COMMIT");
  ExpectEqual();
  EXPECT_EQ(Value("SELECT count(*) FROM public.a"), "3002");
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
}

TEST_F(Streaming, ColumnsAddedInsideAreThere) {
  Running run = RunLive();
  const auto a = Open();
  a->Do(Rows("a", 1000, 3000));
  ASSERT_TRUE(IsStreamed());
  a->Do("SAVEPOINT one");
  a->Do("ALTER TABLE public.a ADD COLUMN gone text DEFAULT 'x'");
  a->Do("INSERT INTO public.a SELECT i, i, 'v', 'gone' FROM generate_series(4000, 6000) i");
  a->Do("ROLLBACK TO one");
  a->Do(Rows("a", 6000, 8000));
  a->Do("ALTER TABLE public.a ADD COLUMN more int DEFAULT 5");
  a->Do("INSERT INTO public.a SELECT i, i, 'v', i FROM generate_series(8001, 9000) i");
  a->Do("COMMIT");
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (20000, 1, 'after', 2)"));
  ExpectEqual();
  run.Signal(SIGTERM);
  const Ended ended = run.Wait(seconds(12));
  // Some servers cannot send it while it is open; then it comes after its commit.
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
}

// Rule 1.2: its commit lies beyond every boundary that is stored meanwhile.
TEST_F(Streaming, AnOpenTransactionDoesNotHoldUpOthers) {
  Running run = RunLive();
  const auto a = Open();
  a->Do(Rows("a", 1000, 30000, 500));  // Beyond 4 MiB: to disk.
  ASSERT_TRUE(IsStreamed());
  EXPECT_TRUE(Eventually([&] {
    return run.err_so_far().find("set aside on disk") != std::string::npos;
  })) << run.err_so_far();
  EXPECT_TRUE(SpillFolderIsEmpty()) << "what is set aside has no name";
  ASSERT_TRUE(Sql("INSERT INTO public.b VALUES (10000, 'meanwhile')"));
  const std::string position = server_->Value("SELECT pg_current_wal_flush_lsn()");
  EXPECT_TRUE(Eventually(
      [&] {
        return server_->Value("SELECT confirmed_flush_lsn >= '" + position +
                              "' FROM pg_replication_slots WHERE slot_name = '" + slot_ + "'") ==
               "t";
      },
      seconds(30)));
  // What was confirmed beyond it is no loss: it is sent again as a whole.
  (void)run.Kill();
  EXPECT_TRUE(SpillFolderIsEmpty());
  Running again = RunLive();
  a->Do(Rows("a", 40000, 41000));
  a->Do("COMMIT");
  ExpectEqual();
  (void)again.Kill();
}

TEST_F(Streaming, KilledAtAnyMomentOfALargeTransaction) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  int first = 1000;
  for (const int pause_ms : {50, 200, 400, 700, 1200}) {
    SCOPED_TRACE(pause_ms);
    Running run = RunLive();
    const auto a = Open();
    a->Do(Rows("a", first, first + 9999, 700));
    a->Do("SAVEPOINT s");
    a->Do("UPDATE public.a SET n = 7 WHERE id >= 1000");
    a->Do("ROLLBACK TO s");
    a->Do("UPDATE public.a SET n = n + 1 WHERE id % 3 = 0");
    a->Do("DELETE FROM public.a WHERE id % 10 = 9");
    a->Do("COMMIT");
    first += 10000;
    const timespec pause{.tv_sec = pause_ms / 1000, .tv_nsec = pause_ms % 1000 * 1'000'000};
    nanosleep(&pause, nullptr);
    (void)run.Kill();
    ExpectEqual();
    EXPECT_TRUE(SpillFolderIsEmpty());
    if (HasFailure() || ShortTests()) return;
  }
}

TEST_F(Streaming, ASignalEndsItWhileATransactionIsOpenAndWhileItIsGoneThrough) {
  for (const bool commit : {false, true}) {
    SCOPED_TRACE(commit);
    Running run = RunLive();
    const auto a = Open();
    a->Do(Rows("a", commit ? 100000 : 1000, commit ? 130000 : 30000, 500));
    ASSERT_TRUE(IsStreamed());
    if (commit) a->Do("COMMIT");
    run.Signal(SIGTERM);
    const Ended ended = run.Wait(seconds(12));
    EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
    if (!commit) a->Do("ROLLBACK");
    ExpectEqual();
  }
}

TEST_F(Streaming, MoreThanTheDiskMayHoldIsSaidAndNothingIsLost) {
  Limit("1MiB");
  ASSERT_EQ(space_.Sync().exit_code, 0);
  ASSERT_TRUE(Sql(Rows("a", 1000, 30000, 500)));
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("ETL-S220"));
  EXPECT_THAT(sync.err, HasSubstr("raise limits.spill"));
  Limit("1GiB");
  ExpectEqual();
}

TEST_F(Streaming, AFolderThatCannotBeUsedIsSaid) {
  ASSERT_EQ(space_.Sync().exit_code, 0);
  config_.top = {"limits: {memory: 64MiB, spill_dir: /proc/none}"};
  space_.Write(config_);
  ASSERT_TRUE(Sql(Rows("a", 1000, 30000, 500)));
  const Ended sync = space_.Sync();
  EXPECT_NE(sync.exit_code, 0) << sync.Describe();
  EXPECT_THAT(sync.err, HasSubstr("spill_dir"));
  Limit("1GiB");
  ExpectEqual();
}

// The publication's columns may change while a writer of the table is open: it waits for nobody.
// The table is copied again then, once.
TEST_F(Streaming, APublicationThatChangesUnderAnOpenTransactionIsFollowed) {
  Running run = RunLive();
  const auto a = Open();
  a->Do(Rows("a", 1000, 3000));
  // Its last block, sent at its commit, has rows of this table alone.
  a->Do(Rows("b", 1000, 3000));
  ASSERT_TRUE(IsStreamed());
  ASSERT_TRUE(Sql("ALTER PUBLICATION etl_p SET TABLE public.a (id, v), public.b"));
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (10000, 1, 'by another')"));
  a->Do("COMMIT");
  // Its entry in the publication is a new one, so it is copied again; once, and then it is
  // followed.
  const auto said = [&](const std::string& text) {
    return run.err_so_far().find(text) != std::string::npos;
  };
  ASSERT_TRUE(Eventually([&] { return said("generation=2"); }, seconds(30))) << run.err_so_far();
  EXPECT_TRUE(Eventually([&] { return TablePhase("public.a") == "live"; }, seconds(40)))
      << Status().dump() << run.err_so_far();
  ASSERT_TRUE(Sql("INSERT INTO public.a VALUES (10001, 1, 'after')"));
  const Ended sync = space_.Sync();
  EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
  EXPECT_FALSE(said("generation=3")) << run.err_so_far();
  const std::string sql = "SELECT string_agg(id || v, ',' ORDER BY id) FROM ";
  const auto rows = QueryDuckDb(space_.duckdb(), sql + "copy.public.a");
  ASSERT_TRUE(rows.ok()) << ErrorLine(rows.status());
  EXPECT_EQ((*rows)[0][0], Value(sql + "public.a"));
  run.Signal(SIGTERM);
  EXPECT_EQ(run.Wait(seconds(12)).exit_code, 0);
}

}  // namespace
}  // namespace etl

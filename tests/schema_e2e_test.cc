// What changes at the source without a row in the stream, or changes what rows mean, is noticed:
// partitions, default values, labels and attributes of types, the publication, `columns:`.
#include <chrono>
#include <csignal>

#include <gmock/gmock.h>

#include "support/e2e_fixture.h"

namespace etl {
namespace {

using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

class Schema : public E2eTest {
 protected:
  void Synced() {
    const Ended sync = space_.Sync();
    ASSERT_EQ(sync.exit_code, 0) << sync.Describe();
  }
  // One query on the copy, as text: rows by semicolons, values by commas.
  std::string Copy(const std::string& sql) const {
    const auto rows = QueryDuckDb(space_.duckdb(), sql);
    if (!rows.ok()) return ErrorLine(rows.status());
    std::string text;
    for (const auto& row : *rows) {
      if (!text.empty()) text += "; ";
      for (size_t i = 0; i < row.size(); ++i)
        text += (i == 0 ? "" : ", ") + row[i].value_or("NULL");
    }
    return text;
  }
  // How often the table was copied.
  std::string Generation(const std::string& table) const {
    return Copy("SELECT generation FROM copy._etl.tables WHERE target_name = '" + table + "'");
  }
  void WithPipeline(const std::vector<std::string>& lines) {
    std::vector<std::string> base = config_.pipeline;
    config_.pipeline.insert(config_.pipeline.end(), lines.begin(), lines.end());
    space_.Write(config_);
    config_.pipeline = base;
  }
  std::string TableError(const std::string& name) const {
    const nlohmann::json status = Status();
    for (const auto& table : status.at("tables"))
      if (table.at("name") == name) return table.value("error", "");
    return "none";
  }
  void EventuallyEqual() {
    EXPECT_TRUE(Eventually([&] { return Different().empty(); }, seconds(30)))
        << Different() << Status().dump();
  }
};

TEST_F(Schema, ATruncatedPartitionIsCopiedAgain) {
  ASSERT_TRUE(
      Sql("CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 "
          "PARTITION OF p FOR VALUES FROM (0) TO (100); CREATE TABLE p2 PARTITION OF p FOR VALUES "
          "FROM (100) TO (200); INSERT INTO p SELECT i, 'x' FROM generate_series(0, 199) i"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("TRUNCATE p1"));
  ExpectEqual();
  ASSERT_TRUE(Sql("INSERT INTO p VALUES (1, 'again'); ALTER TABLE p DETACH PARTITION p2"));
  ExpectEqual();
}

TEST_F(Schema, ADefaultAddedToAPartitionedTableReachesTheRowsThatAreThere) {
  ASSERT_TRUE(
      Sql("CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p1 "
          "PARTITION OF p FOR VALUES FROM (0) TO (100); CREATE TABLE p2 PARTITION OF p FOR VALUES "
          "FROM (100) TO (200); INSERT INTO p SELECT i, 'x' FROM generate_series(90, 109) i"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  const std::string generation = Generation("p");
  ASSERT_TRUE(Sql("ALTER TABLE p ADD COLUMN c int DEFAULT 5, ADD COLUMN d text"));
  ExpectEqual();
  ASSERT_TRUE(
      Sql("ALTER TABLE p ADD COLUMN e text DEFAULT 'it''s'; INSERT INTO p VALUES (1, 'y')"));
  ExpectEqual();
  EXPECT_EQ(Generation("p"), generation) << "nothing had to be copied";
}

TEST_F(Schema, ARenamedLabelOfAnEnumIsCopiedAgainAndANewOneIsNot) {
  ASSERT_TRUE(
      Sql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN felt AS mood; CREATE TABLE a (id "
          "int PRIMARY KEY, m mood, ms felt[]); INSERT INTO a VALUES (1, 'sad', '{sad,ok}'), (2, "
          "'ok', NULL)"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  const std::string generation = Generation("a");
  ASSERT_TRUE(Sql("ALTER TYPE mood ADD VALUE 'great' BEFORE 'ok'"));
  ASSERT_TRUE(Sql("INSERT INTO a VALUES (3, 'great', '{great}')"));
  ExpectEqual();
  EXPECT_EQ(Generation("a"), generation);
  ASSERT_TRUE(Sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"));
  ExpectEqual();
  EXPECT_EQ(Copy("SELECT m, ms::VARCHAR FROM copy.public.a WHERE id = 1"), "blue, [blue, ok]");
}

TEST_F(Schema, AnOldLabelOfATransactionThatWasOpenDoesNotStay) {
  ASSERT_TRUE(
      Sql("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE a (id int PRIMARY KEY, m mood); "
          "INSERT INTO a VALUES (1, 'sad'); CREATE TABLE bag (m mood); ALTER TABLE bag REPLICA "
          "IDENTITY FULL; INSERT INTO bag VALUES ('sad'), ('sad')"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(
      Sql("BEGIN; INSERT INTO a VALUES (2, 'sad'); DELETE FROM bag WHERE ctid = '(0,1)'; PREPARE "
          "TRANSACTION 'open'"));
  ASSERT_TRUE(Sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"));
  const auto copying = [&] { return TablePhase("public.a") == "copying"; };
  {
    Running sync = space_.Start({"sync"});
    EXPECT_TRUE(Eventually(copying));
    (void)sync.Kill();
  }
  Running sync = space_.Start({"sync"});
  EXPECT_TRUE(Eventually([&] {
    return sync.err_so_far().find("copy begins") != std::string::npos;
  })) << sync.err_so_far();
  EXPECT_TRUE(Eventually(copying));
  ASSERT_TRUE(Sql("COMMIT PREPARED 'open'"));
  const Ended ended = sync.Wait(seconds(30));
  EXPECT_EQ(ended.exit_code, 0) << ended.Describe();
  EXPECT_EQ(Different(), "");
}

TEST_F(Schema, AChangedCompositeTypeIsCopiedAgain) {
  ASSERT_TRUE(
      Sql("CREATE TYPE spot AS (x int, y text); CREATE TABLE a (id int PRIMARY KEY, s spot, ss "
          "spot[]); INSERT INTO a VALUES (1, '(1,one)', ARRAY['(1,one)'::spot])"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("ALTER TYPE spot RENAME ATTRIBUTE y TO label CASCADE"));
  Synced();
  EXPECT_EQ(Copy("SELECT s::VARCHAR FROM copy.public.a"), "{'x': 1, 'label': one}");
  // Rows of the new form come before anything tells of it.
  ASSERT_TRUE(Sql("ALTER TYPE spot ADD ATTRIBUTE z int; INSERT INTO a VALUES (2, '(2,two,3)')"));
  Synced();
  EXPECT_EQ(Copy("SELECT s::VARCHAR FROM copy.public.a ORDER BY id"),
            "{'x': 1, 'label': one, 'z': NULL}; {'x': 2, 'label': two, 'z': 3}");
  ASSERT_TRUE(
      Sql("ALTER TYPE spot DROP ATTRIBUTE z; ALTER TYPE spot ADD ATTRIBUTE w int; INSERT INTO a "
          "VALUES (3, '(3,three,4)')"));
  Synced();
  EXPECT_EQ(Copy("SELECT s::VARCHAR FROM copy.public.a ORDER BY id"),
            "{'x': 1, 'label': one, 'w': NULL}; {'x': 2, 'label': two, 'w': NULL}; {'x': 3, "
            "'label': three, 'w': 4}");
  ASSERT_TRUE(
      Sql("ALTER TYPE spot DROP ATTRIBUTE w; ALTER TYPE spot ADD ATTRIBUTE v text; INSERT INTO a "
          "VALUES (4, '(4,four,seven)')"));
  Synced();
  EXPECT_EQ(Copy("SELECT s::VARCHAR FROM copy.public.a WHERE id IN (3, 4) ORDER BY id"),
            "{'x': 3, 'label': three, 'v': NULL}; {'x': 4, 'label': four, 'v': seven}");
}

TEST_F(Schema, APublicationThatLeavesOutOperationsIsRefused) {
  ASSERT_TRUE(
      Sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE PUBLICATION pub "
          "FOR TABLE a WITH (publish = 'insert, update, delete')"));
  for (const char* mode : {"mode: mirror", "mode: append"}) {
    WithPipeline({"publication: pub", mode});
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 78) << sync.Describe();
    EXPECT_THAT(sync.err, HasSubstr("ALTER PUBLICATION \"pub\" SET (publish = 'insert, update, "
                                    "delete, truncate')"));
  }
}

TEST_F(Schema, OperationsThatWereLeftOutForAWhileAreNotLost) {
  ASSERT_TRUE(
      Sql("CREATE TABLE a (id int PRIMARY KEY, v int); INSERT INTO a VALUES (1, 1), (2, 2); CREATE "
          "PUBLICATION pub FOR TABLE a"));
  WithPipeline({"publication: pub"});
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub SET (publish = 'insert')"));
  ASSERT_TRUE(Sql("UPDATE a SET v = 3 WHERE id = 1"));
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub SET (publish = 'insert, update, delete, truncate')"));
  ExpectEqual({.publication = "pub"});

  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub SET (publish = 'insert, update')"));
  ASSERT_TRUE(Sql("DELETE FROM a WHERE id = 2; INSERT INTO a VALUES (4, 4)"));
  EXPECT_TRUE(Eventually([&] { return Phase() == "stopped"; })) << Status().dump();
  EXPECT_THAT(Status().value("error", ""), HasSubstr("pub"));
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub SET (publish = 'insert, update, delete, truncate')"));
  const Ended start = space_.Run({"pipeline", "start", "p"});
  EXPECT_EQ(start.exit_code, 0) << start.Describe();
  EXPECT_TRUE(Eventually([&] { return Different({.publication = "pub"}).empty(); }, seconds(30)))
      << Status().dump();
}

TEST_F(Schema, ASchemaThatLeftThePublicationForAWhileIsCopiedAgain) {
  if (server_->version_num() < 150000) GTEST_SKIP() << "schemas are published since PostgreSQL 15";
  ASSERT_TRUE(
      Sql("CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY); INSERT INTO s.a VALUES (1); "
          "CREATE PUBLICATION pub FOR TABLES IN SCHEMA s"));
  WithPipeline({"publication: pub"});
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub DROP TABLES IN SCHEMA s"));
  ASSERT_TRUE(Sql("INSERT INTO s.a VALUES (2)"));
  ASSERT_TRUE(Sql("ALTER PUBLICATION pub ADD TABLES IN SCHEMA s"));
  ExpectEqual({.publication = "pub"});
}

class Columns : public Schema {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    ASSERT_TRUE(
        Sql("CREATE TABLE users (id int PRIMARY KEY, name text, mail text); INSERT INTO users "
            "VALUES (1, 'ann', 'ann@x'), (2, 'bob', 'bob@x')"));
  }
  // Sync with `columns: {public.users: RULES}`, empty: without.
  Ended SyncWith(const std::string& rules, const std::string& key = "k",
                 const std::string& table = "public.users") {
    std::vector<std::string> lines = {"hash_key: {env: HASH_KEY}"};
    if (!rules.empty()) lines.push_back("columns: {" + table + ": " + rules + "}");
    WithPipeline(lines);
    return space_.Run({"sync"}, {{"HASH_KEY", key}});
  }
  std::string Users(const std::string& table = "users") const {
    return Copy("SELECT * FROM copy.public." + table + " ORDER BY id");
  }
  std::string Mail() const { return Copy("SELECT mail FROM copy.public.users WHERE id = 1"); }
};

TEST_F(Columns, NoLongerExcludedAreCopied) {
  ASSERT_EQ(SyncWith("{exclude: [mail]}").exit_code, 0);
  EXPECT_EQ(Users(), "1, ann; 2, bob");
  ASSERT_EQ(SyncWith("").exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(Columns, ExcludedLaterGo) {
  ASSERT_EQ(SyncWith("").exit_code, 0);
  const std::string generation = Generation("users");
  ASSERT_EQ(SyncWith("{exclude: [mail]}").exit_code, 0);
  EXPECT_EQ(Users(), "1, ann; 2, bob");
  EXPECT_EQ(Generation("users"), generation);
}

TEST_F(Columns, HashedLaterOrNoMoreOrUnderAnotherKeyAreCopiedAgain) {
  ASSERT_EQ(SyncWith("").exit_code, 0);
  ASSERT_EQ(SyncWith("{hash: [mail]}", "k").exit_code, 0);
  const std::string hashed = Mail();
  EXPECT_EQ(hashed.size(), 64u) << hashed;
  ASSERT_EQ(SyncWith("{hash: [mail]}", "k").exit_code, 0);
  const std::string generation = Generation("users");
  ASSERT_EQ(SyncWith("{hash: [mail]}", "another").exit_code, 0);
  EXPECT_EQ(Mail().size(), 64u);
  EXPECT_NE(Mail(), hashed);
  EXPECT_NE(Generation("users"), generation);
  const std::string after = Generation("users");
  ASSERT_EQ(SyncWith("{hash: [mail]}", "another").exit_code, 0);
  EXPECT_EQ(Generation("users"), after) << "the same key copies nothing";
  EXPECT_THAT(Copy("SELECT fingerprint FROM copy._etl.tables"), Not(HasSubstr("another")));
  ASSERT_EQ(SyncWith("", "another").exit_code, 0);
  EXPECT_EQ(Different(), "");
}

TEST_F(Columns, InAppendModeGoOnUnderNewRulesAndTheHistoryStays) {
  const auto with = [&](const std::string& rules) {
    WithPipeline(
        {"mode: append", "hash_key: {env: HASH_KEY}", "columns: {public.users: " + rules + "}"});
    return space_.Run({"sync"}, {{"HASH_KEY", "k"}});
  };
  const Ended first = with("{exclude: [mail]}");
  ASSERT_EQ(first.exit_code, 0) << first.Describe();
  const Ended second = with("{hash: [name]}");
  ASSERT_EQ(second.exit_code, 0) << second.Describe();
  EXPECT_EQ(Copy("SELECT id, length(name), mail FROM copy.public.users WHERE _etl_op <> 't' ORDER "
                 "BY id, _etl_lsn"),
            "1, 3, NULL; 1, 64, ann@x; 2, 3, NULL; 2, 64, bob@x");
  EXPECT_EQ(Copy("SELECT count(*) FROM copy.public.users WHERE _etl_op = 't'"), "1")
      << "the copy under the new rules stands for all that came before";
}

TEST_F(Columns, OfARenamedTableKeepTheirRulesOrStop) {
  ASSERT_EQ(SyncWith("{exclude: [mail]}").exit_code, 0);
  ASSERT_TRUE(
      Sql("ALTER TABLE users RENAME TO people; INSERT INTO people VALUES (3, 'eve', 'e@x')"));
  for (int i = 0; i < 2; ++i) {
    const Ended sync = SyncWith("{exclude: [mail]}");
    EXPECT_EQ(sync.exit_code, 1) << sync.Describe();
    EXPECT_EQ(TablePhase("public.users"), "stopped");
    EXPECT_THAT(TableError("public.users"), HasSubstr("ETL-S125"));
    EXPECT_EQ(Users(), "1, ann; 2, bob") << "it stays as it was";
  }
  const Ended cured = SyncWith("{exclude: [mail]}", "k", "public.people");
  EXPECT_EQ(cured.exit_code, 0) << cured.Describe();
  EXPECT_EQ(Users("people"), "1, ann; 2, bob; 3, eve");

  // Rules that wait for the new name are taken over at once.
  ASSERT_TRUE(Sql("ALTER TABLE people RENAME TO folk; INSERT INTO folk VALUES (4, 'dan', 'd@x')"));
  WithPipeline({"columns: {public.people: {exclude: [mail]}, public.folk: {exclude: [mail]}}"});
  Synced();
  EXPECT_EQ(Users("folk"), "1, ann; 2, bob; 3, eve; 4, dan");
}

TEST_F(Schema, ATypeThatOnlyTheServerPrintsMayAppearWhileItRuns) {
  ASSERT_TRUE(
      Sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1); CREATE PUBLICATION etl_p "
          "FOR ALL TABLES"));
  Running run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  ASSERT_TRUE(Sql("ALTER TABLE a ADD COLUMN net inet; INSERT INTO a VALUES (2, '10.0.0.1')"));
  EventuallyEqual();
  run.Signal(SIGTERM);
  (void)run.Wait(seconds(10));
  ASSERT_TRUE(Sql("ALTER TABLE a DROP COLUMN net"));
  run = space_.Start({"run"});
  ASSERT_TRUE(Eventually([&] { return Phase() == "running"; }));
  ASSERT_TRUE(
      Sql("CREATE TABLE b (id int PRIMARY KEY, r int4range); INSERT INTO b VALUES (1, '[1,5)')"));
  ASSERT_TRUE(Sql("INSERT INTO b VALUES (2, 'empty')"));
  EventuallyEqual();
}

TEST_F(Schema, RowsOfATypeThatIsGoneByNowAreStillRead) {
  ASSERT_TRUE(
      Sql("CREATE TABLE a (id int PRIMARY KEY, net inet); INSERT INTO a VALUES (1, '10.0.0.1')"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("INSERT INTO a VALUES (2, '10.0.0.2')"));
  ASSERT_TRUE(Sql("ALTER TABLE a DROP COLUMN net"));
  ASSERT_TRUE(Sql("INSERT INTO a VALUES (3)"));
  ExpectEqual();
}

}  // namespace
}  // namespace etl

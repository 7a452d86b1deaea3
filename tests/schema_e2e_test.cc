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
          "INSERT INTO a VALUES (1, 'sad')"));
  ASSERT_NO_FATAL_FAILURE(Synced());
  ASSERT_TRUE(Sql("BEGIN; INSERT INTO a VALUES (2, 'sad'); PREPARE TRANSACTION 'open'"));
  ASSERT_TRUE(Sql("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"));
  Running sync = space_.Start({"sync"});
  EXPECT_TRUE(Eventually([&] { return TablePhase("public.a") == "copying"; }));
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

}  // namespace
}  // namespace etl

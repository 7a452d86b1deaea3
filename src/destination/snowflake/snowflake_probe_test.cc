// The probe against the emulator, as a role that owns nothing and is granted what the probe asks
// for.

#include "destination/snowflake/snowflake_probe.h"

#include <set>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "destination/snowflake/emulator_testing.h"
#include "destination/snowflake/snowflake_destination.h"
#include "model/column_type.h"
#include "net/jwt.h"

namespace etl {
namespace {

using Json = nlohmann::json;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Severity = ProbeFinding::Severity;

TableSchemaPtr TableOf(const std::string& schema, const std::string& name,
                       const std::vector<std::string>& columns) {
  auto table = std::make_shared<TableSchema>();
  table->id = {static_cast<uint32_t>(16384 + name.size())};
  table->schema = schema;
  table->name = name;
  table->version = 1;
  auto type = std::make_shared<ColumnType>();
  type->kind = TypeKind::kInt4;
  int16_t number = 0;
  for (const std::string& column : columns)
    table->columns.push_back({.attnum = ++number, .name = column, .type = type, .hashed = false});
  return table;
}

class SnowflakeProbeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { emulator_ = new EmulatorProcess(); }
  static void TearDownTestSuite() { delete emulator_; }

  SnowflakeProbeTest() {
    static int number = 0;
    const std::string mine = std::to_string(++number);
    probe_.config = emulator_->Config();
    probe_.config.user = "user_" + mine;
    probe_.config.role = "ROLE_" + mine;
    probe_.config.database = "base_" + mine;
    probe_.config.schema = "shop";
    probe_.config.landing_schema = "etl_schema";
    probe_.key = TestOrigin(&key_);
    probe_.pipeline = "shop";
    probe_.tables = {TableOf("public", "orders", {"id", "note"})};
    Sql("CREATE DATABASE BASE_" + mine);
  }

  void Sql(const std::string& statement) const {
    emulator_->Control("sql", Json{{"statement", statement}});
  }
  void RunAll(const std::vector<std::string>& statements) const {
    for (const std::string& statement : statements) Sql(statement);
  }
  SnowflakeProbeReport Probe() const { return ProbeSnowflake(probe_, SystemClock()); }
  /// Ids of what is not well.
  std::set<std::string> Problems(Severity at_least = Severity::kWarn) const {
    std::set<std::string> ids;
    for (const ProbeFinding& finding : Probe().findings) {
      if (finding.severity >= at_least) ids.insert(finding.id);
    }
    return ids;
  }
  std::string Explain() const {
    std::string text;
    for (const ProbeFinding& finding : Probe().findings)
      text += finding.id + " " + finding.what + ": " + finding.why + " / " + finding.remedy + "\n";
    return text;
  }
  Json State() const { return emulator_->Control("state", std::nullopt); }
  /// Names of tables, tasks and schemas of this test's database.
  std::set<std::string> Objects() const {
    std::set<std::string> names;
    const Json state = State();
    const std::string base = UpperAscii(probe_.config.database);
    for (const Json& table : state.at("tables")) {
      if (table.at("database") == base) names.insert(table.at("name"));
    }
    for (const Json& task : state.at("tasks")) {
      if (task.at("path").at(0) == base) names.insert(task.at("path").at(2));
    }
    for (const Json& channel : state.at("channels")) {
      if (channel.at("database_name") == base) names.insert(channel.at("channel_name"));
    }
    const Json schemas =
        emulator_->Control("sql", Json{{"statement", "SHOW SCHEMAS IN DATABASE " + base}});
    for (const Json& row : schemas.at("rows")) names.insert(row.at(1).get<std::string>());
    return names;
  }

  static EmulatorProcess* emulator_;
  int key_ = 0;
  SnowflakeProbe probe_;
};
EmulatorProcess* SnowflakeProbeTest::emulator_ = nullptr;

TEST_F(SnowflakeProbeTest, WhatItPrintsIsEnoughForAUserWhoOwnsNothing) {
  const SnowflakeProbeReport before = Probe();
  ASSERT_EQ(Problems(), std::set<std::string>{"D02"});
  RunAll(before.grants);
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
  EXPECT_EQ(Objects(), (std::set<std::string>{"PUBLIC", "ETL_SCHEMA", "SHOP"}))
      << "a check leaves nothing behind";
  // And it is enough for the destination itself.
  SnowflakeDestination destination(
      SnowflakeOptions{.config = probe_.config,
                       .key = [this]() -> Result<KeyOrigin> { return TestOrigin(&key_); },
                       .forward_every = std::chrono::milliseconds(50)},
      SystemClock());
  const auto started = destination.Start({.pipeline = "shop", .mode = Mode::kMirror});
  EXPECT_TRUE(started.ok()) << ErrorLine(started.status());
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
}

TEST_F(SnowflakeProbeTest, EachGrantThatIsMissingIsFoundAndCured) {
  probe_.config.merge_by = MergeBy::kTask;
  const std::vector<std::string> grants = Probe().grants;
  RunAll(grants);
  ASSERT_EQ(Problems(), std::set<std::string>{}) << Explain();
  int tried = 0;
  for (const std::string& grant : grants) {
    std::string undo, expected;
    if (grant.starts_with("GRANT ")) {
      undo = "REVOKE" + grant.substr(5);
      const bool role = grant.starts_with("GRANT ROLE ");
      const std::string to = role ? " TO USER " : " TO ROLE ";
      undo.replace(undo.find(to), 4, " FROM ");
      expected = role || grant.find(" ON WAREHOUSE ") != std::string::npos   ? "D03"
                 : grant.find(" TASK ") != std::string::npos                 ? "D09"
                 : grant.find("CREATE TABLE ON SCHEMA") != std::string::npos ? "D05"
                                                                             : "D04";
    } else if (grant.starts_with("ALTER USER ")) {
      undo = grant.substr(0, grant.find(" SET ")) + " UNSET RSA_PUBLIC_KEY";
      expected = "D02";
    } else if (grant.starts_with("CREATE SCHEMA IF NOT EXISTS ")) {
      undo = "DROP SCHEMA " + grant.substr(28);
      expected = "D04";
    } else {
      continue;  // A role and a user without anything are what this test begins with.
    }
    SCOPED_TRACE(undo);
    ++tried;
    Sql(undo);
    const SnowflakeProbeReport found = Probe();
    std::set<std::string> ids;
    std::vector<std::string> cure;
    for (const ProbeFinding& finding : found.findings) {
      if (finding.severity != Severity::kFail) continue;
      ids.insert(finding.id);
      cure.insert(cure.end(), finding.sql.begin(), finding.sql.end());
    }
    EXPECT_EQ(ids, std::set<std::string>{expected}) << Explain();
    EXPECT_FALSE(cure.empty());
    RunAll(cure);
    const std::set<std::string> left = Problems();
    EXPECT_EQ(left, std::set<std::string>{}) << "after the cure: " << Explain();
    EXPECT_EQ(Objects().count("_ETL_CHECK_SHOP"), 0u);
    RunAll(grants);
  }
  EXPECT_EQ(tried, 12);
}

TEST_F(SnowflakeProbeTest, SchemasThatFollowTheSourceAreMadeByTheRole) {
  probe_.config.schema = "raw_{schema}";
  const std::vector<std::string> grants = Probe().grants;
  EXPECT_THAT(grants, Contains(HasSubstr("GRANT CREATE SCHEMA ON DATABASE")));
  RunAll(grants);
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
  EXPECT_EQ(Objects(), (std::set<std::string>{"PUBLIC", "ETL_SCHEMA"}));
  Sql("REVOKE CREATE SCHEMA ON DATABASE " + UpperAscii(probe_.config.database) + " FROM ROLE " +
      probe_.config.role);
  EXPECT_EQ(Problems(), std::set<std::string>{"D04"}) << Explain();
}

TEST_F(SnowflakeProbeTest, TablesOfOthersAreNotTaken) {
  RunAll(Probe().grants);
  const std::string base = UpperAscii(probe_.config.database);
  Sql("CREATE TABLE " + base + ".SHOP.ORDERS (ID INT)");
  EXPECT_EQ(Problems(), std::set<std::string>{}) << "what the role cannot see is not looked for";
  Sql("GRANT SELECT ON TABLE " + base + ".SHOP.ORDERS TO ROLE " + probe_.config.role);
  EXPECT_EQ(Problems(Severity::kFail), std::set<std::string>{"D08"});
  EXPECT_THAT(Explain(), HasSubstr("\"SHOP\".\"ORDERS\" is there, and the engine did not make it"));
  probe_.mode = Mode::kAppend;
  EXPECT_EQ(Problems(), std::set<std::string>{}) << "append has no such target";
  Sql("DROP TABLE " + base + ".SHOP.ORDERS");
  Sql("CREATE TABLE " + base + ".ETL_SCHEMA.LANDING_ORDERS (ID INT)");
  Sql("GRANT SELECT ON TABLE " + base + ".ETL_SCHEMA.LANDING_ORDERS TO ROLE " + probe_.config.role);
  EXPECT_EQ(Problems(), std::set<std::string>{"D08"}) << Explain();
  Sql("ALTER TABLE " + base + ".ETL_SCHEMA.LANDING_ORDERS ADD COLUMN _ETL_POSITION VARCHAR");
  EXPECT_EQ(Problems(), std::set<std::string>{"D08"}) << "of another role";
  for (const ProbeFinding& finding : Probe().findings) {
    if (finding.id == "D08") RunAll(finding.sql);
  }
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
}

TEST_F(SnowflakeProbeTest, NamesThatBecomeOneAreFoundBeforeAnythingElse) {
  probe_.tables = {TableOf("public", "orders", {"id", "ID"}), TableOf("other", "orders", {"id"}),
                   TableOf("public", "_etl_progress", {"id"}), TableOf("public", "bare", {})};
  const SnowflakeProbeReport report = Probe();
  std::vector<std::string> found;
  for (const ProbeFinding& finding : report.findings) {
    if (finding.id == "S26") found.push_back(finding.what);
  }
  EXPECT_EQ(found.size(), 5u);
  EXPECT_THAT(found, Contains(HasSubstr("public.orders: id and column ID would both be \"ID\"")));
  EXPECT_THAT(found, Contains(HasSubstr("names beginning with _ETL_")));
  probe_.config.identifiers = IdentifierCase::kPreserve;
  probe_.tables = {TableOf("public", "orders", {"id", "ID"})};
  EXPECT_EQ(Problems().count("S26"), 0u) << "as in the source";
}

TEST_F(SnowflakeProbeTest, ClocksThatDifferAreTold) {
  RunAll(Probe().grants);
  emulator_->Control("settings", Json{{"clock_skew", 45.0}});
  EXPECT_EQ(Problems(), std::set<std::string>{"D07"});
  emulator_->Control("settings", Json{{"clock_skew", -45.0}});
  EXPECT_THAT(Explain(), HasSubstr("its clock is 45 s behind ours"));
  emulator_->Control("settings", Json{{"clock_skew", 0.0}});
}

TEST_F(SnowflakeProbeTest, FoldedQuotesAreRefused) {
  RunAll(Probe().grants);
  emulator_->Control("settings", Json{{"quoted_identifiers_ignore_case", true}});
  EXPECT_EQ(Problems(Severity::kFail), std::set<std::string>{"D04"});
  emulator_->Control("settings", Json{{"quoted_identifiers_ignore_case", false}});
}

TEST_F(SnowflakeProbeTest, AChannelThatCannotBeOpenedIsTold) {
  RunAll(Probe().grants);
  emulator_->Control(
      "faults",
      Json{{"faults",
            {{{"match", {{"method", "PUT"}, {"path", "/channels/"}}},
              {"times", -1},
              {"answer",
               {{"status", 403}, {"code", "FORBIDDEN"}, {"message", "network policy"}}}}}}});
  EXPECT_EQ(Problems(Severity::kFail), std::set<std::string>{"D06"}) << Explain();
  EXPECT_EQ(Objects().count("_ETL_CHECK_SHOP"), 0u) << "dropped in every case";
  // Its faults have no other end than this.
  delete emulator_;
  emulator_ = new EmulatorProcess();
}

TEST_F(SnowflakeProbeTest, ATableLeftByAKilledCheckGoesWithTheNext) {
  RunAll(Probe().grants);
  const std::string table = UpperAscii(probe_.config.database) + ".ETL_SCHEMA._ETL_CHECK_SHOP";
  Sql("CREATE TABLE " + table + " (X INT)");
  Sql("GRANT OWNERSHIP ON TABLE " + table + " TO ROLE " + probe_.config.role);
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
  EXPECT_EQ(Objects().count("_ETL_CHECK_SHOP"), 0u);
}

TEST_F(SnowflakeProbeTest, TheSecondKeySlotIsRecognised) {
  RunAll(Probe().grants);
  const std::string user = UpperAscii(probe_.config.user);
  Sql("ALTER USER " + user + " SET RSA_PUBLIC_KEY_2='" + TestKey()->public_key() + "'");
  Sql("ALTER USER " + user + " SET RSA_PUBLIC_KEY='" + TestKey(1)->public_key() + "'");
  const SnowflakeProbeReport report = Probe();
  EXPECT_EQ(Problems(), std::set<std::string>{}) << Explain();
  EXPECT_THAT(Explain(), HasSubstr(" is RSA_PUBLIC_KEY_2"));
  EXPECT_THAT(report.grants,
              Contains(HasSubstr(" SET RSA_PUBLIC_KEY_2='" + TestKey()->public_key())));
}

TEST_F(SnowflakeProbeTest, AddressesThatAreNoneAreNamed) {
  probe_.config.url = "https://app.snowflake.com/myorg/myacct";
  EXPECT_EQ(Problems(), std::set<std::string>{"D10"});
  probe_.config.url = emulator_->Config().url;
  probe_.config.account = "myorg-myacct.snowflakecomputing.com";
  EXPECT_EQ(Problems(), std::set<std::string>{"D10"});
  probe_.config.account = "TESTORG-OTHER";
  EXPECT_EQ(Problems(), std::set<std::string>{"D02"});
}

TEST_F(SnowflakeProbeTest, AnAccountThatDoesNotAnswerIsToldSoon) {
  probe_.config.url = "http://127.0.0.1:1";
  probe_.patience = std::chrono::milliseconds(300);
  const Instant start = SystemClock().Now();
  EXPECT_EQ(Problems(), std::set<std::string>{"D01"});
  EXPECT_LT(SystemClock().Now() - start, std::chrono::seconds(10));
}

TEST_F(SnowflakeProbeTest, AKeyThatCannotBeReadIsToldWithoutIt) {
  probe_.key.read = []() -> Result<PrivateKeyPtr> {
    return MakeError(ErrorKind::kConfig, "ETL-C022", "the secret file k cannot be used",
                     "chmod 600 k");
  };
  EXPECT_EQ(Problems(), std::set<std::string>{"D02"});
  EXPECT_THAT(Probe().grants, testing::Not(Contains(HasSubstr("RSA_PUBLIC_KEY"))));
}

}  // namespace
}  // namespace etl

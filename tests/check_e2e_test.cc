// `check --fix-sql`, through the program: what it prints is run line by line by somebody who may,
// and is enough.

#include <sstream>

#include <gmock/gmock.h>

#include "destination/snowflake/emulator_testing.h"
#include "support/e2e_fixture.h"

namespace etl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class CheckE2e : public E2eTest {
 protected:
  void SetUp() override {
    E2eTest::SetUp();
    role_ = "fresh_" + database_;
    ASSERT_TRUE(Sql("CREATE ROLE " + role_));
    config_.url = server_->ConnInfo(database_) + " user=" + role_;
  }
  void TearDown() override {
    (void)server_->Exec("DROP DATABASE " + database_ + " WITH (FORCE)");
    (void)server_->Exec("DROP ROLE " + role_);
  }

  /// The statements of one end, as somebody would paste them.
  static std::vector<std::string> Statements(const std::string& output, const std::string& end) {
    std::vector<std::string> statements;
    std::istringstream lines(output);
    bool mine = false;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("-- source ") || line.starts_with("-- destination "))
        mine = line.starts_with("-- " + end);
      if (mine && !line.starts_with("--")) statements.push_back(line);
    }
    return statements;
  }
  std::string Problems(const std::string& end) const {
    const Ended ended = space_.Run({"check", "--json"});
    std::string problems;
    const nlohmann::json report = nlohmann::json::parse(ended.out);
    for (const auto& check : report.at("checks")) {
      if (check.at("severity") == "fail" && check.at("part").get<std::string>().starts_with(end))
        problems +=
            check.at("id").get<std::string>() + " " + check.at("what").get<std::string>() + "; ";
    }
    return problems;
  }

  std::string role_;
};

TEST_F(CheckE2e, WhatItPrintsForPostgresIsEnoughForARoleThatOwnsNothing) {
  ASSERT_TRUE(
      Sql("CREATE SCHEMA \"S; x\"; CREATE TABLE \"S; x\".\"t -- y\" (id int PRIMARY KEY);"
          "CREATE TABLE split (id int PRIMARY KEY) PARTITION BY RANGE (id);"
          "CREATE TABLE part PARTITION OF split FOR VALUES FROM (0) TO (10)"));
  space_.Write(config_);
  EXPECT_THAT(Problems("source"), HasSubstr("S02"));
  // First it is let in, then it can be seen what there is.
  for (int i = 0; i < 2; ++i) {
    const Ended printed = space_.Run({"check", "--fix-sql"});
    EXPECT_EQ(printed.exit_code, 1) << printed.Describe();
    const std::vector<std::string> statements = Statements(printed.out, "source");
    EXPECT_GE(statements.size(), 2u) << printed.out;
    for (const std::string& statement : statements) {
      // Settings of the whole server are not this test's to change.
      if (statement.starts_with("ALTER SYSTEM ")) continue;
      EXPECT_TRUE(Sql(statement)) << statement;
    }
  }
  EXPECT_EQ(Problems("source"), "");
  const Ended synced = space_.Sync();
  EXPECT_EQ(synced.exit_code, 0) << synced.Describe();
  (void)Sql("SELECT pg_drop_replication_slot('" + slot_ + "')");
}

TEST_F(CheckE2e, SnowflakeIsCheckedAndNoSecretIsShown) {
  EmulatorProcess emulator;
  const SnowflakeConfig account = emulator.Config();
  ASSERT_TRUE(
      Sql("CREATE TABLE t (id int PRIMARY KEY, note text); ALTER ROLE " + role_ + " LOGIN"));
  const std::string key = space_.path("key.p8");
  ASSERT_TRUE(TestKey()->WriteFile(key, Secret(std::string("a secret phrase"))).ok());
  space_.WriteFile(
      "etl-stream.yaml",
      "server: {listen: off}\n"
      "sources: {s: {type: postgres, url: \"" +
          config_.url +
          "\"}}\n"
          "destinations:\n  w: {type: snowflake, account: " +
          account.account + ", url: \"" + account.url +
          "\", user: new_user, role: NEW_ROLE, warehouse: ETL_WH, database: db, schema: fresh, "
          "landing_schema: etl_landing, private_key: {file: key.p8}, private_key_passphrase: {env: "
          "PHRASE}}\n"
          "pipelines:\n  p: {source: s, destination: w, tables: [\"public.*\"], slot: " +
          slot_ + "}\n");
  const Environment environment{{"PHRASE", "a secret phrase"}};
  const Ended refused = space_.Run({"check"}, environment);
  EXPECT_EQ(refused.exit_code, 1) << refused.Describe();
  EXPECT_THAT(refused.out, HasSubstr("FAIL  D02"));
  const Ended printed = space_.Run({"check", "--fix-sql"}, environment);
  for (const std::string& statement : Statements(printed.out, "destination"))
    emulator.Control("sql", nlohmann::json{{"statement", statement}});
  const Ended checked = space_.Run({"check", "--json"}, environment);
  const nlohmann::json report = nlohmann::json::parse(checked.out);
  for (const auto& check : report.at("checks")) {
    if (check.at("part") != "destination w") continue;
    EXPECT_EQ(check.at("severity"), "ok") << check.dump();
  }
  EXPECT_THAT(checked.out, HasSubstr("\"D06\""));
  const std::string pem = ReadText(key);
  const std::string body = pem.substr(pem.find('\n') + 1, 40);
  for (const Ended& ended : {refused, printed, checked}) {
    for (const std::string& secret : {std::string("a secret phrase"), body, std::string("Bearer"),
                                      std::string("eyJ"), std::string("PRIVATE KEY")}) {
      EXPECT_THAT(ended.out + ended.err, Not(HasSubstr(secret)));
    }
  }
}

}  // namespace
}  // namespace etl

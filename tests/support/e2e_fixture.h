#pragma once

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "support/compare.h"
#include "support/pg_server.h"
#include "support/workspace.h"

namespace etl {

/// One server for the program, one database, slot and workspace for each test. Pipeline `p`.
class E2eTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    Result<std::unique_ptr<PgServer>> started = PgServer::Start({.settings = Settings()});
    ASSERT_TRUE(started.ok()) << ErrorLine(started.status());
    server_ = std::move(*started);
  }
  static void TearDownTestSuite() { server_.reset(); }
  static std::vector<std::string> Settings() {
    // A command that restores nothing: with it a test can make the server begin a new timeline.
    return {"restore_command=false", "wal_sender_timeout=30s", "max_wal_size=200MB"};
  }

  void SetUp() override {
    static int number = 0;
    database_ = "d" + std::to_string(++number);
    slot_ = "etl_" + database_;
    ASSERT_TRUE(server_->Exec("CREATE DATABASE " + database_).ok());
    config_.url = server_->ConnInfo(database_);
    config_.pipeline = {"slot: " + slot_, "snapshot: {parallelism: 2, chunk_rows: 500}",
                        "batch: {max_rows: 1000, max_delay: 50ms}",
                        "retry: {max_delay: 500ms, give_up: 4s}"};
    space_.Write(config_);
  }
  void TearDown() override {
    if (server_ == nullptr || !server_->running()) return;
    (void)server_->Exec(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE "
        "slot_name = '" +
        slot_ + "' AND active");
    Eventually([&] {
      return server_->Value(
                 "SELECT count(*) FROM pg_replication_slots WHERE active AND "
                 "slot_name = '" +
                 slot_ + "'") == "0";
    });
    (void)server_->Exec("SELECT pg_drop_replication_slot('" + slot_ + "')");
    (void)server_->Exec("DROP DATABASE " + database_ + " WITH (FORCE)");
  }

  /// Statements in the test's database; each in a connection of its own.
  testing::AssertionResult Sql(const std::string& sql) const {
    Result<std::vector<std::vector<std::optional<std::string>>>> rows = Ask(sql);
    if (rows.ok()) return testing::AssertionSuccess();
    return testing::AssertionFailure() << ErrorLine(rows.status());
  }
  std::string Value(const std::string& sql) const {
    const auto rows = Ask(sql);
    if (!rows.ok()) return ErrorLine(rows.status());
    return rows->empty() ? "no row" : (*rows)[0][0].value_or("NULL");
  }
  Result<std::vector<std::vector<std::optional<std::string>>>> Ask(const std::string& sql) const {
    return QuerySource(server_->ConnInfo(database_), sql);
  }

  std::string Different(const CompareOptions& options = {}) const {
    return Differences(server_->ConnInfo(database_), space_.duckdb(), options);
  }
  /// Syncs and compares, and lets the engine's own verify agree.
  void ExpectEqual(const CompareOptions& options = {}) {
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
    EXPECT_EQ(Different(options), "");
  }
  nlohmann::json Status() const {
    const Ended ended = space_.Run({"status", "--json"});
    const auto parsed = nlohmann::json::parse(ended.out, nullptr, false);
    if (parsed.is_discarded() || !parsed.contains("pipelines")) {
      ADD_FAILURE() << ended.Describe();
      return nlohmann::json{{"phase", "?"}, {"tables", nlohmann::json::array()}};
    }
    return parsed.at("pipelines").at(0);
  }
  std::string Phase() const { return Status().value("phase", "?"); }
  std::string TablePhase(const std::string& name) const {
    const nlohmann::json status = Status();
    for (const auto& table : status.at("tables"))
      if (table.at("name") == name) return table.value("phase", "?");
    return "none";
  }

  static inline std::unique_ptr<PgServer> server_;
  std::string database_;
  std::string slot_;
  Workspace::Config config_;
  Workspace space_;
};

}  // namespace etl

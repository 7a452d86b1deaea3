#pragma once

#include <map>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "postgres/source_setup.h"
#include "postgres/table_query.h"
#include "support/pg_server.h"

namespace etl {

inline Instant Soon(int seconds = 20) {
  return SystemClock().Now() + std::chrono::seconds(seconds);
}

#define ASSERT_OK(expression)                       \
  do {                                              \
    const ::etl::Status ok_ = (expression);         \
    ASSERT_TRUE(ok_.ok()) << ::etl::ErrorLine(ok_); \
  } while (false)

inline std::string CodeOf(const Status& status) {
  return status.ok() ? "OK" : PartsOf(status).code;
}

/// One server for all tests of the suite, a database for each.
class Postgres : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto started = PgServer::Start();
    ASSERT_OK(started.status());
    server_ = started->release();
  }
  static void TearDownTestSuite() { delete server_; }

  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    static int number = 0;
    database_ = "d" + std::to_string(++number);
    ASSERT_OK(server_->Exec("CREATE DATABASE " + database_));
    source_.conninfo = server_->ConnInfo(database_);
    auto made = PgConnection::Connect(source_, PgConnection::Mode::kNormal, Soon());
    ASSERT_OK(made.status());
    sql_ = std::move(*made);
    ASSERT_OK(sql_->Query("SET search_path = public", Soon()).status());
  }
  void Run(const std::string& sql) { ASSERT_OK(sql_->Query(sql, Soon()).status()); }
  std::string Value(const std::string& sql) {
    auto rows = sql_->Query(sql, Soon());
    return rows.ok() ? rows->String(0, 0) : ErrorLine(rows.status());
  }
  std::unique_ptr<SourceSetup> Prepare() {
    auto setup = SourceSetup::Connect(source_, Soon());
    EXPECT_TRUE(setup.ok()) << ErrorLine(setup.status());
    return setup.ok() ? std::move(*setup) : nullptr;
  }
  std::map<std::string, TableFacts> Facts() {
    auto session = PgConnection::Connect(source_, PgConnection::Mode::kNormal, Soon());
    auto answer = LoadTables(**session, "pub", Soon());
    EXPECT_TRUE(answer.ok()) << ErrorLine(answer.status());
    std::map<std::string, TableFacts> facts;
    if (answer.ok()) {
      for (TableFacts& table : answer->tables) facts[table.name] = table;
    }
    return facts;
  }
  /// A client of the database, as an application would be.
  std::unique_ptr<PgConnection> Session() {
    auto made = PgConnection::Connect(source_, PgConnection::Mode::kNormal, Soon());
    EXPECT_TRUE(made.ok() && (*made)->Query("SET search_path = public", Soon()).ok());
    return made.ok() ? std::move(*made) : nullptr;
  }

  static inline PgServer* server_ = nullptr;
  std::string database_;
  SourceOptions source_;
  std::unique_ptr<PgConnection> sql_;
};

}  // namespace etl

#pragma once

#include <cctype>
#include <cstdlib>
#include <memory>
#include <string>

#include "destination/snowflake/emulator_testing.h"
#include "support/compare_snowflake.h"
#include "support/e2e_fixture.h"

namespace etl {

/// One PostgreSQL and one emulator of Snowflake for the program, spoken to over TLS; for each test
/// one database, slot, workspace, target schema and landing schema. Pipeline `p`.
class SnowflakeE2eTest : public E2eTest {
 protected:
  static void SetUpTestSuite() {
    E2eTest::SetUpTestSuite();
    emulator_ = std::make_unique<EmulatorProcess>(EmulatorProcess::Json{{"commit_lag", 0.05}},
                                                  EmulatorProcess::Tls::kToo);
    setenv("SSL_CERT_FILE", emulator_->ca_file().c_str(), 1);
  }
  static void TearDownTestSuite() {
    unsetenv("SSL_CERT_FILE");
    emulator_.reset();
    E2eTest::TearDownTestSuite();
  }

  void SetUp() override {
    E2eTest::SetUp();
    // As Snowflake keeps plain names.
    suffix_ = database_;
    for (char& c : suffix_) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    emulator_->ClearFaults();
    emulator_->Control("setup",
                       EmulatorProcess::Json{{"schemas", {{"DB", Target()}, {"DB", Landing()}}}});
    ASSERT_TRUE(TestKey()->WriteFile(space_.path("etl.p8"), Secret()).ok());
    config_.destinations = Destination(emulator_->tls_url());
    space_.Write(config_);
  }

  std::string Target() const { return "S_" + suffix_; }
  std::string Landing() const { return "ETL_" + suffix_; }
  /// `every`: between merges; `sync` waits for none of them.
  std::string Destination(const std::string& url, const std::string& every = "1s",
                          const std::string& more = "") const {
    return "d: {type: snowflake, account: TESTORG-TESTACCOUNT, url: '" + url +
           "', user: ETL_USER, role: ETL_ROLE, warehouse: ETL_WH, database: DB, schema: " +
           Target() + ", landing_schema: " + Landing() +
           ", private_key: {file: etl.p8}, merge: {every: " + every + "}" + more + "}";
  }

  static EmulatorProcess::Json RowsOf(const std::string& schema, const std::string& table) {
    return emulator_->RowsIfThere(schema, table);
  }
  std::string Different() const {
    return SnowflakeDifferences(server_->ConnInfo(database_), RowsOf, {.schema = Target()});
  }
  void ExpectEqual() {
    const Ended sync = space_.Sync();
    EXPECT_EQ(sync.exit_code, 0) << sync.Describe();
    EXPECT_EQ(Different(), "");
  }
  /// Tables of a schema, as the emulator sees them.
  static std::string TablesOf(const std::string& schema) {
    std::string out;
    for (const auto& row : emulator_->Sql("SELECT table_name FROM DB.information_schema.tables "
                                          "WHERE table_schema = '" +
                                          schema + "' ORDER BY 1"))
      out += row.at(0).get<std::string>() + " ";
    return out;
  }

  static inline std::unique_ptr<EmulatorProcess> emulator_;
  std::string suffix_;
};

}  // namespace etl

// `check` of a source, against a real server.

#include <set>

#include <gtest/gtest.h>

#include "postgres/preflight.h"
#include "support/live_postgres.h"

namespace etl {
namespace {

/// Ids of what was found, worst first letter each: "fail S13".
std::multiset<std::string> Problems(const std::vector<PreflightFinding>& findings) {
  std::multiset<std::string> problems;
  for (const PreflightFinding& finding : findings) {
    if (finding.severity == PreflightFinding::Severity::kFail)
      problems.insert("fail " + finding.id);
    if (finding.severity == PreflightFinding::Severity::kWarn)
      problems.insert("warn " + finding.id);
  }
  return problems;
}

std::string RemedyOf(const std::vector<PreflightFinding>& findings, const std::string& id) {
  for (const PreflightFinding& finding : findings) {
    if (finding.id == id && finding.severity != PreflightFinding::Severity::kOk)
      return finding.remedy;
  }
  return "none";
}

TEST_F(Postgres, PreflightOfAGoodSourceFindsNoProblemButTheUnlimitedSlot) {
  Run("CREATE TABLE t(id int PRIMARY KEY, v inet)");
  const auto findings = RunSourcePreflight(
      source_, {.publication = "pub", .slot = "slot", .tables = {"public.*"}}, Soon());
  EXPECT_EQ(Problems(findings), (std::multiset<std::string>{"warn S09"}));
  EXPECT_EQ(Value("SELECT count(*) FROM pg_publication"), "0") << "a check changes nothing";
}

TEST_F(Postgres, PreflightOffersTheSqlThatCuresWhatItFinds) {
  Run("CREATE TABLE keyless(a int); CREATE TABLE indexed(a int NOT NULL UNIQUE); "
      "CREATE TABLE whole(a int); ALTER TABLE whole REPLICA IDENTITY FULL; "
      "CREATE UNLOGGED TABLE fleeting(a int PRIMARY KEY); CREATE TABLE \"Good\"(a int PRIMARY "
      "KEY); "
      "CREATE TABLE good(a int PRIMARY KEY); CREATE TABLE cased(a int PRIMARY KEY, \"A\" int); "
      "CREATE PUBLICATION pub FOR TABLE keyless, whole, cased, \"Good\", good WITH (publish = "
      "'insert')");
  const auto findings = RunSourcePreflight(
      source_, {.publication = "pub", .slot = "slot", .tables = {"public.*"}}, Soon());
  EXPECT_EQ(Problems(findings),
            (std::multiset<std::string>{"warn S09", "fail S11", "fail S12", "fail S13", "warn S13",
                                        "warn S19", "fail S26", "fail S26"}));
  EXPECT_EQ(RemedyOf(findings, "S12"),
            "ALTER PUBLICATION \"pub\" ADD TABLE \"public\".\"indexed\";");
  EXPECT_EQ(RemedyOf(findings, "S19"), "ALTER TABLE \"public\".\"fleeting\" SET LOGGED;");
  Run("DROP PUBLICATION pub; CREATE PUBLICATION pub FOR TABLE indexed");
  const auto index =
      RunSourcePreflight(source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  EXPECT_EQ(RemedyOf(index, "S13"),
            "ALTER TABLE \"public\".\"indexed\" REPLICA IDENTITY USING INDEX \"indexed_a_key\";");
  Run(RemedyOf(index, "S13"));
  EXPECT_EQ(Problems(RunSourcePreflight(
                source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon())),
            (std::multiset<std::string>{"warn S09"}));
}

TEST_F(Postgres, PreflightOfAPoorRoleTellsWhatToGrant) {
  Run("CREATE TABLE t(id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE t; ALTER TABLE t "
      "ENABLE ROW LEVEL SECURITY; "
      "DO $$ BEGIN CREATE ROLE poor LOGIN REPLICATION; EXCEPTION WHEN duplicate_object THEN NULL; "
      "END $$");
  SourceOptions options;
  options.conninfo = server_->ConnInfo(database_) + " user=poor";
  const auto findings =
      RunSourcePreflight(options, {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  EXPECT_EQ(Problems(findings), (std::multiset<std::string>{"warn S09", "fail S17", "fail S18"}));
  Run("GRANT USAGE ON SCHEMA public TO poor; GRANT SELECT ON t TO poor; ALTER ROLE poor BYPASSRLS");
  EXPECT_EQ(Problems(RunSourcePreflight(
                options, {.publication = "pub", .slot = "slot", .tables = {}}, Soon())),
            (std::multiset<std::string>{"warn S09"}));
  const auto nobody = RunSourcePreflight(
      [&] {
        SourceOptions wrong;
        wrong.conninfo = server_->TcpConnInfo(database_);
        wrong.password = Secret(std::string("wrong"));
        return wrong;
      }(),
      {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  EXPECT_EQ(Problems(nobody), (std::multiset<std::string>{"fail S02"}));
}

const PreflightFinding* Find(const std::vector<PreflightFinding>& findings, const std::string& id) {
  for (const PreflightFinding& finding : findings) {
    if (finding.id == id) return &finding;
  }
  return nullptr;
}

TEST_F(Postgres, PreflightFindsTablesOfTheEnginesOwn) {
  Run("CREATE TABLE t(id int PRIMARY KEY); CREATE TABLE \"_ETL_PROGRESS\"(id int PRIMARY KEY); "
      "CREATE PUBLICATION pub FOR TABLE t, \"_ETL_PROGRESS\"");
  const auto findings =
      RunSourcePreflight(source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  EXPECT_EQ(Problems(findings), (std::multiset<std::string>{"warn S09", "warn S22"}));
  EXPECT_EQ(Problems(RunSourcePreflight(
                source_,
                {.publication = "pub", .slot = "slot", .tables = {"*.*", "!public._ETL_PROGRESS"}},
                Soon())),
            (std::multiset<std::string>{"warn S09"}))
      << "the remedy";
}

TEST_F(Postgres, PreflightFindsForeignTablesAndPartitions) {
  Run("CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER far FOREIGN DATA WRAPPER nothing; "
      "CREATE TABLE split(id int PRIMARY KEY) PARTITION BY RANGE (id); "
      "CREATE TABLE near PARTITION OF split FOR VALUES FROM (0) TO (10)");
  Run("ALTER TABLE split DROP CONSTRAINT split_pkey; "
      "CREATE FOREIGN TABLE away PARTITION OF split FOR VALUES FROM (10) TO (20) SERVER far; "
      "CREATE FOREIGN TABLE alone(id int) SERVER far; "
      "ALTER TABLE split REPLICA IDENTITY FULL; ALTER TABLE near REPLICA IDENTITY FULL");
  const auto findings = RunSourcePreflight(
      source_,
      {.publication = "pub", .slot = "slot", .tables = {"public.*"}, .columns = {}, .append = true},
      Soon());
  EXPECT_EQ(Problems(findings), (std::multiset<std::string>{"warn S09", "fail S19", "warn S19"}));
  Run("CREATE PUBLICATION pub FOR TABLE split WITH (publish_via_partition_root = true)");
  const auto published = RunSourcePreflight(
      source_, {.publication = "pub", .slot = "slot", .tables = {}, .columns = {}, .append = true},
      Soon());
  EXPECT_EQ(Problems(published), (std::multiset<std::string>{"warn S09", "fail S19"}));
}

TEST_F(Postgres, PreflightTellsOfASenderTimeoutBelowOurReports) {
  Run("ALTER DATABASE " + database_ + " SET wal_sender_timeout = '4s'");
  const auto findings =
      RunSourcePreflight(source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  const PreflightFinding* found = Find(findings, "S28");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->severity, PreflightFinding::Severity::kWarn);
  EXPECT_EQ(found->what, "wal_sender_timeout is only 4000 ms");
  EXPECT_EQ(found->sql, (std::vector<std::string>{"ALTER SYSTEM SET wal_sender_timeout = '60s'",
                                                  "SELECT pg_reload_conf()"}));
}

TEST_F(Postgres, PreflightTellsOfTransactionsThatWereTooLargeToDecodeInMemory) {
  Run("CREATE TABLE t(id int PRIMARY KEY, v text); CREATE PUBLICATION pub FOR TABLE t");
  const std::string slot = database_ + "_s29";
  Run("SELECT pg_create_logical_replication_slot('" + slot + "', 'pgoutput')");
  const auto look = [&] {
    const auto findings =
        RunSourcePreflight(source_, {.publication = "pub", .slot = slot, .tables = {}}, Soon());
    const PreflightFinding* found = Find(findings, "S29");
    return found == nullptr ? PreflightFinding() : *found;
  };
  EXPECT_EQ(look().severity, PreflightFinding::Severity::kOk) << look().what;
  Run("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 5000) i");
  Run("SET logical_decoding_work_mem = '64kB'");
  Run("SELECT count(*) FROM pg_logical_slot_get_binary_changes('" + slot +
      "', NULL, NULL, 'proto_version', '1', 'publication_names', 'pub')");
  const PreflightFinding found = look();
  EXPECT_EQ(found.severity, PreflightFinding::Severity::kWarn) << found.what;
  ASSERT_EQ(found.sql.size(), 1u);
  Run(found.sql[0]);
  Run("ALTER ROLE postgres RESET logical_decoding_work_mem");
  Run("SELECT pg_drop_replication_slot('" + slot + "')");
}

TEST_F(Postgres, PreflightTellsOfAClockThatDiffers) {
  class Ahead : public Clock {
   public:
    Instant Now() const override { return SystemClock().Now(); }
    UnixMicros WallNow() const override { return SystemClock().WallNow() + 90'000'000; }
  } clock;
  const auto findings = RunSourcePreflight(
      source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon(), clock);
  const PreflightFinding* found = Find(findings, "S27");
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->severity, PreflightFinding::Severity::kWarn);
  EXPECT_TRUE(found->what.ends_with("s behind ours")) << found->what;
}

TEST_F(Postgres, PreflightLooksAtFailoverWhereTheServerKnowsIt) {
  Run("SELECT pg_create_physical_replication_slot('" + database_ + "_standby')");
  const auto findings =
      RunSourcePreflight(source_, {.publication = "pub", .slot = "slot", .tables = {}}, Soon());
  const PreflightFinding* found = Find(findings, "S24");
  Run("SELECT pg_drop_replication_slot('" + database_ + "_standby')");
  if (server_->version_num() < 170000) {
    EXPECT_EQ(found, nullptr);
  } else {
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->severity, PreflightFinding::Severity::kWarn);
    Run(found->sql.at(0));
    Run("SELECT pg_drop_replication_slot('slot')");
  }
}

}  // namespace
}  // namespace etl

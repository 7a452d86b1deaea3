#include "destination/duckdb/duckdb_query.h"

#include <fstream>

#include <gtest/gtest.h>
#include <sys/wait.h>

#include "destination/conformance_model.h"
#include "destination/duckdb/duckdb_file.h"
#include "destination/duckdb/duckdb_probe.h"
#include "destination/duckdb/duckdb_test_support.h"

namespace etl {
namespace {

void Make(const std::string& path, const std::string& sql) {
  auto file = std::make_shared<DuckDbFile>(DuckDbOptions{.path = path});
  auto lease = *DuckDbFile::Acquire(file);
  auto connection = *DuckDbConnection::Open(lease->database());
  const auto made = connection->Execute(sql);
  ASSERT_TRUE(made.ok()) << ErrorLine(made.status());
}

/// Whether some finding has this id, severity and part of its text.
bool Has(const std::vector<ProbeFinding>& findings, const std::string& id,
         ProbeFinding::Severity severity, const std::string& text) {
  for (const ProbeFinding& finding : findings) {
    if (finding.id == id && finding.severity == severity &&
        finding.what.find(text) != std::string::npos)
      return true;
  }
  return false;
}

TableSchemaPtr Named(const std::string& name, const std::vector<std::string>& columns) {
  auto schema = std::make_shared<TableSchema>();
  schema->schema = "public";
  schema->name = name;
  for (const std::string& column : columns) {
    schema->columns.push_back(
        {static_cast<int16_t>(schema->columns.size() + 1), column, ModelType(TypeKind::kText)});
  }
  return schema;
}

TEST(DuckDbQuery, RowsComeAsTextAndAsJson) {
  TemporaryFile temporary;
  Make(temporary.path(),
       "CREATE TABLE t AS SELECT 1 AS a, 'it''s' AS b, NULL AS c, 1.50 AS d, "
       "'{\"x\": 1}'::JSON AS j, 'nan'::DOUBLE AS n, true AS y, 2 AS \"A b\"");
  std::vector<DuckDbQueryColumn> columns;
  std::vector<std::string> json;
  const Status status = RunDuckDbQuery({.path = temporary.path(),
                                        .sql = "SELECT * FROM t; -- all\n",
                                        .on_columns =
                                            [&](const auto& found) {
                                              columns = found;
                                              return Status::OK();
                                            },
                                        .on_row =
                                            [&](const auto& row) {
                                              json.push_back(DuckDbRowToJson(columns, row));
                                              return Status::OK();
                                            }});
  ASSERT_FALSE(status.ok()) << "a comment after the semicolon is a second statement";
  const Status again = RunDuckDbQuery({.path = temporary.path(),
                                       .sql = "SELECT * FROM t;\n",
                                       .on_columns =
                                           [&](const auto& found) {
                                             columns = found;
                                             return Status::OK();
                                           },
                                       .on_row =
                                           [&](const auto& row) {
                                             json.push_back(DuckDbRowToJson(columns, row));
                                             return Status::OK();
                                           }});
  ASSERT_TRUE(again.ok()) << ErrorLine(again);
  ASSERT_EQ(columns.size(), 8u);
  EXPECT_EQ(columns[3].type, "DECIMAL(3,2)");
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0], R"({"a":1,"b":"it's","c":null,"d":1.50,"j":{"x": 1},"n":"nan","y":true,)"
                     R"("A b":2})");
}

TEST(DuckDbQuery, NothingCanBeWrittenAndNothingOutsideRead) {
  TemporaryFile temporary;
  Make(temporary.path(), "CREATE TABLE t(a INTEGER)");
  for (const char* sql :
       {"INSERT INTO t VALUES (1)", "DROP TABLE t", "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/passwd')", "SELECT nothing FROM t", "ATTACH '/tmp/x.duckdb'",
        "SET threads = 1", "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
        "EXPLAIN ANALYZE COPY t TO '/tmp/etl_query_test.csv'",
        "COPY t TO '/tmp/etl_query_test.csv'", "PRAGMA enable_profiling",
        "CREATE TEMP TABLE x(a INTEGER)", "DESCRIBE t; DROP TABLE t", ""}) {
    const Status status = RunDuckDbQuery(
        {.path = temporary.path(), .sql = sql, .on_columns = {}, .on_row = [](const auto&) {
           return Status::OK();
         }});
    EXPECT_FALSE(status.ok()) << sql;
  }
}

TEST(DuckDbQuery, AMistakeOfTheStatementIsToldInDuckDbsWordsOnly) {
  TemporaryFile temporary;
  Make(temporary.path(), "CREATE TABLE t AS SELECT 'a' AS a");
  for (const auto& [sql, words] : std::vector<std::pair<std::string, std::string>>{
           {"SELECT error('boom') FROM t", "boom"},
           {"SELECT 'a'::int", "Could not convert"},
           {"SELECT a::int FROM t", "Could not convert"},
           {"SELECT * FROM tt", "Did you mean"},
           {"SELECT FROM WHERE", "syntax error"}}) {
    const Status status = RunDuckDbQuery(
        {.path = temporary.path(), .sql = sql, .on_columns = {}, .on_row = [](const auto&) {
           return Status::OK();
         }});
    EXPECT_EQ(KindOf(status), ErrorKind::kUsage) << sql;
    EXPECT_EQ(PartsOf(status).code, "ETL-D125") << sql;
    const std::string text = ErrorLine(status);
    EXPECT_NE(text.find(words), std::string::npos) << text;
    EXPECT_EQ(text.find("VARCHAR) AS q("), std::string::npos) << text;
    EXPECT_EQ(text.find("LINE 1"), std::string::npos) << text;
    EXPECT_EQ(PartsOf(status).what.find('\n'), std::string::npos) << text;
  }
}

TEST(DuckDbQuery, OtherStatementsThatOnlyReadGiveRowsToo) {
  TemporaryFile temporary;
  Make(temporary.path(), "CREATE TABLE t(a INTEGER, b VARCHAR)");
  for (const auto& [sql, words] : std::vector<std::pair<std::string, std::string>>{
           {"DESCRIBE t", R"({"column_name":"a","column_type":"INTEGER","null":"YES")"},
           {"SHOW TABLES", R"({"name":"t"})"},
           {"EXPLAIN SELECT * FROM t", R"({"explain_key":"physical_plan")"},
           {"EXPLAIN ANALYZE SELECT * FROM t", R"({"explain_key":"analyzed_plan")"},
           {"PRAGMA database_list;", temporary.path()},
           {"PRAGMA table_info('t')", R"({"cid":1,"name":"b","type":"VARCHAR","notnull":false)"}}) {
    std::vector<DuckDbQueryColumn> columns;
    std::string json;
    const Status status = RunDuckDbQuery({.path = temporary.path(),
                                          .sql = sql,
                                          .on_columns =
                                              [&](const auto& found) {
                                                columns = found;
                                                return Status::OK();
                                              },
                                          .on_row =
                                              [&](const auto& row) {
                                                json += DuckDbRowToJson(columns, row);
                                                return Status::OK();
                                              }});
    EXPECT_TRUE(status.ok()) << sql << ": " << ErrorLine(status);
    EXPECT_NE(json.find(words), std::string::npos) << sql << ": " << json;
  }
}

TEST(DuckDbQuery, AFileThatAnotherProcessHoldsIsBusyAndSaysWho) {
  TemporaryFile temporary;
  Make(temporary.path(), "CREATE TABLE t(a INTEGER)");
  int ready[2], over[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(over), 0);
  const pid_t child = fork();
  if (child == 0) {
    duckdb_database database;
    const bool opened = duckdb_open(temporary.path().c_str(), &database) == DuckDBSuccess;
    char byte = opened ? 'y' : 'n';
    (void)!write(ready[1], &byte, 1);
    (void)!read(over[0], &byte, 1);
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  ASSERT_EQ(byte, 'y');
  const Status status = RunDuckDbQuery(
      {.path = temporary.path(), .sql = "SELECT 1", .on_columns = {}, .on_row = [](const auto&) {
         return Status::OK();
       }});
  EXPECT_EQ(KindOf(status), ErrorKind::kBusy);
  EXPECT_EQ(PartsOf(status).code, "ETL-D131");
  EXPECT_NE(PartsOf(status).why.find(std::to_string(child)), std::string::npos)
      << PartsOf(status).why;
  const auto findings = ProbeDuckDb({.file = {.path = temporary.path()}, .pipeline = "p"});
  EXPECT_TRUE(Has(findings, "D20", ProbeFinding::Severity::kFail, "another process"));
  ASSERT_EQ(write(over[1], &byte, 1), 1);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
}

TEST(DuckDbProbe, FindsWhatWouldFail) {
  TemporaryFile temporary;
  Make(temporary.path(), "CREATE SCHEMA public; CREATE TABLE public.Mine(a INTEGER)");
  const auto findings = ProbeDuckDb({.file = {.path = temporary.path()},
                                     .pipeline = "p",
                                     .tables = {Named("mine", {"a"}), Named("Two", {"a"}),
                                                Named("two", {"x", "X"}), Named("none", {})}});
  const auto fail = ProbeFinding::Severity::kFail;
  EXPECT_TRUE(Has(findings, "D23", fail, "public.mine is in the file"));
  EXPECT_TRUE(Has(findings, "D23", fail, "public.Two and public.two"));
  EXPECT_TRUE(Has(findings, "D23", fail, "columns x and X"));
  EXPECT_TRUE(Has(findings, "D23", fail, "public.none has no columns"));
  EXPECT_TRUE(Has(findings, "D22", ProbeFinding::Severity::kOk, ""));
}

TEST(DuckDbProbe, FindsTablesThatAreTooWideForItsMemory) {
  const auto findings_for = [](size_t columns, const std::string& path) {
    std::vector<std::string> names;
    for (size_t i = 0; i < columns; ++i) names.push_back("c" + std::to_string(i));
    return ProbeDuckDb({.file = {.path = path, .memory_bytes = 64 << 20},
                        .pipeline = "p",
                        .tables = {Named("wide", names)}});
  };
  TemporaryFile none;
  EXPECT_TRUE(Has(findings_for(119, none.path()), "D24", ProbeFinding::Severity::kFail, "wide"));
  EXPECT_TRUE(Has(findings_for(100, none.path()), "D24", ProbeFinding::Severity::kWarn, "wide"));
  EXPECT_FALSE(Has(findings_for(80, none.path()), "D24", ProbeFinding::Severity::kWarn, ""));
  // A file that was made with smaller blocks takes more.
  TemporaryFile fine;
  duckdb_config config = nullptr;
  duckdb_create_config(&config);
  duckdb_set_config(config, "default_block_size", "16384");
  duckdb_database database = nullptr;
  ASSERT_EQ(duckdb_open_ext(fine.path().c_str(), &database, config, nullptr), DuckDBSuccess);
  duckdb_close(&database);
  duckdb_destroy_config(&config);
  EXPECT_FALSE(Has(findings_for(1600, fine.path()), "D24", ProbeFinding::Severity::kFail, ""));
}

TEST(DuckDbProbe, AFileThatIsNoDatabaseIsRefused) {
  TemporaryFile temporary;
  std::ofstream(temporary.path()) << std::string(20000, 'x');
  const auto findings = ProbeDuckDb({.file = {.path = temporary.path()}, .pipeline = "p"});
  EXPECT_TRUE(Has(findings, "D22", ProbeFinding::Severity::kFail, ""));
}

TEST(DuckDbProbe, DoesNotMakeTheFile) {
  TemporaryFile temporary;
  const auto findings = ProbeDuckDb({.file = {.path = temporary.path()}, .pipeline = "p"});
  EXPECT_TRUE(Has(findings, "D20", ProbeFinding::Severity::kOk, ""));
  EXPECT_FALSE(std::filesystem::exists(temporary.path()));
}

}  // namespace
}  // namespace etl

#include "destination/duckdb/duckdb_query.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "destination/duckdb/duckdb_file.h"

namespace etl {
namespace {

struct OpenDatabase {
  duckdb_database database = nullptr;
  ~OpenDatabase() {
    if (database != nullptr) duckdb_close(&database);
  }
};

struct Statement {
  duckdb_prepared_statement statement = nullptr;
  ~Statement() { duckdb_destroy_prepare(&statement); }
};

/// The name of a type, nested ones too, as `DESCRIBE` gives it.
Result<std::vector<DuckDbQueryColumn>> Describe(DuckDbConnection& connection,
                                                const std::string& sql) {
  ETL_ASSIGN_OR_RETURN(
      auto rows, connection.Rows("SELECT column_name, column_type FROM (DESCRIBE " + sql + "\n)"));
  std::vector<DuckDbQueryColumn> columns;
  for (const TextRow& row : rows) columns.push_back({row[0].value_or(""), row[1].value_or("")});
  return columns;
}

/// The statement without a semicolon at its end, so that it can stand inside another.
std::string Bare(const std::string& sql) {
  const size_t end = sql.find_last_not_of("; \t\r\n");
  return end == std::string::npos ? "" : sql.substr(0, end + 1);
}

bool IsNumber(const std::string& type) {
  for (const char* name : {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT",
                           "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "HUGEINT", "UHUGEINT"}) {
    if (type == name) return true;
  }
  return type.starts_with("DECIMAL(");
}

}  // namespace

Status RunDuckDbQuery(const DuckDbQuery& query) {
  if (!std::filesystem::exists(query.path)) {
    return MakeError(ErrorKind::kUsage, "ETL-D124", "there is no file " + query.path + " yet",
                     "run `etl-stream sync` or `etl-stream run` first");
  }
  OpenDatabase open;
  ETL_ASSIGN_OR_RETURN(open.database, OpenDuckDb({.path = query.path, .read_only = true}));
  ETL_ASSIGN_OR_RETURN(auto connection, DuckDbConnection::Open(open.database));
  // Tables of the source's own default schema are found without naming it, as at the source.
  ETL_ASSIGN_OR_RETURN(const int64_t has_public,
                       connection->Number("SELECT count(*) FROM duckdb_schemas() WHERE "
                                          "database_name = current_database() AND schema_name = "
                                          "'public'"));
  if (has_public > 0)
    ETL_RETURN_IF_ERROR(connection->Execute("SET search_path = 'public,main'").status());
  const std::string sql = Bare(query.sql);
  auto described = Describe(*connection, sql);
  if (!described.ok()) {
    // The statement's own error says more than that of the statement around it.
    Statement statement;
    if (duckdb_prepare(connection->handle(), sql.c_str(), &statement.statement) == DuckDBError) {
      return MakeError(ErrorKind::kUsage, "ETL-D125", duckdb_prepare_error(statement.statement));
    }
    return MakeError(ErrorKind::kUsage, "ETL-D125",
                     "only statements that give rows can be run here");
  }
  const std::vector<DuckDbQueryColumn>& columns = *described;
  if (query.on_columns) ETL_RETURN_IF_ERROR(query.on_columns(columns));
  // Positions, not names: a result may have a name twice.
  std::string list, names;
  for (size_t i = 0; i < columns.size(); ++i) {
    const std::string name = "c" + std::to_string(i);
    list += (i > 0 ? ", " : "") + ("q." + name + "::VARCHAR");
    names += (i > 0 ? ", " : "") + name;
  }
  return connection->TextRows("SELECT " + list + " FROM (" + sql + "\n) AS q(" + names + ")",
                              query.on_row);
}

std::string DuckDbRowToJson(const std::vector<DuckDbQueryColumn>& columns,
                            const std::vector<std::optional<std::string>>& row) {
  std::string json = "{";
  for (size_t i = 0; i < columns.size(); ++i) {
    json += (i > 0 ? "," : "") + JsonQuote(columns[i].name) + ":";
    const std::string& type = columns[i].type;
    const bool raw = row[i].has_value() &&
                     (IsNumber(type) || type == "BOOLEAN" || type == "JSON") &&
                     nlohmann::json::accept(*row[i]);
    json += !row[i].has_value() ? "null" : raw ? *row[i] : JsonQuote(*row[i]);
  }
  return json + "}";
}

}  // namespace etl

#include "destination/duckdb/duckdb_query.h"

#include <algorithm>
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

struct ResultHolder {
  duckdb_result result{};
  ~ResultHolder() { duckdb_destroy_result(&result); }
};

/// Of the types that PRAGMA and EXPLAIN give; what is left is shown as text.
std::string PlainTypeName(duckdb_type type) {
  switch (type) {
    case DUCKDB_TYPE_BOOLEAN: return "BOOLEAN";
    case DUCKDB_TYPE_INTEGER: return "INTEGER";
    case DUCKDB_TYPE_BIGINT: return "BIGINT";
    case DUCKDB_TYPE_UBIGINT: return "UBIGINT";
    default: return "VARCHAR";
  }
}

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

Status Refused(std::string_view message) {
  return MakeError(ErrorKind::kUsage, "ETL-D125", DuckDbWords(message));
}

/// An error while rows were read, without the SQL around the person's own. Lack of memory and of
/// space are what they are; everything else lies in the statement, for nothing is stored here.
Status OfTheStatement(const Status& status) {
  if (status.ok()) return status;
  ErrorParts parts = PartsOf(status);
  if (!parts.code.starts_with("ETL-D13") && parts.code != "ETL-D190") return status;
  if (parts.code == "ETL-D190" || parts.code == "ETL-D133" || parts.code == "ETL-D134")
    return Refused(parts.why);
  parts.what = "DuckDB: the query";
  parts.safe.clear();
  return MakeError(KindOf(status), std::move(parts));
}

/// DuckDB takes these for a SELECT, but not inside another statement.
bool TellsOfTheDatabase(const std::string& sql) {
  const size_t begin = std::min(sql.find_first_not_of(" \t\r\n"), sql.size());
  std::string word = sql.substr(begin, sql.find_first_of(" \t\r\n;", begin) - begin);
  for (char& c : word) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return word == "PRAGMA" || word == "DESCRIBE" || word == "DESC" || word == "SHOW" ||
         word == "SUMMARIZE";
}

/// Runs a statement as it stands, if it gives rows and changes nothing. Such results are small.
Status RunAlone(duckdb_prepared_statement statement, const DuckDbQuery& query) {
  const duckdb_statement_type type = duckdb_prepared_statement_type(statement);
  const bool tells = type == DUCKDB_STATEMENT_TYPE_SELECT && TellsOfTheDatabase(query.sql);
  if (!tells && type != DUCKDB_STATEMENT_TYPE_EXPLAIN) {
    return MakeError(ErrorKind::kUsage, "ETL-D125",
                     "only statements that give rows and change nothing can be run here");
  }
  ResultHolder holder;
  if (duckdb_execute_prepared(statement, &holder.result) == DuckDBError)
    return Refused(duckdb_result_error(&holder.result));
  std::vector<DuckDbQueryColumn> columns;
  for (idx_t c = 0; c < duckdb_column_count(&holder.result); ++c) {
    columns.push_back({duckdb_column_name(&holder.result, c),
                       PlainTypeName(duckdb_column_type(&holder.result, c))});
  }
  if (query.on_columns) ETL_RETURN_IF_ERROR(query.on_columns(columns));
  for (idx_t r = 0; r < duckdb_row_count(&holder.result); ++r) {
    std::vector<std::optional<std::string>> row(columns.size());
    for (idx_t c = 0; c < columns.size(); ++c) {
      if (duckdb_value_is_null(&holder.result, c, r)) continue;
      char* text = duckdb_value_varchar(&holder.result, c, r);
      if (text != nullptr) row[c] = text;
      duckdb_free(text);
    }
    ETL_RETURN_IF_ERROR(query.on_row(row));
  }
  return Status::OK();
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
  Statement statement;
  if (duckdb_prepare(connection->handle(), sql.c_str(), &statement.statement) == DuckDBError)
    return Refused(duckdb_prepare_error(statement.statement));
  const auto described = Describe(*connection, sql);
  // EXPLAIN, PRAGMA and the like cannot stand inside a statement.
  if (!described.ok()) return RunAlone(statement.statement, query);
  const std::vector<DuckDbQueryColumn>& columns = *described;
  if (query.on_columns) ETL_RETURN_IF_ERROR(query.on_columns(columns));
  // Positions, not names: a result may have a name twice.
  std::string list, names;
  for (size_t i = 0; i < columns.size(); ++i) {
    const std::string name = "c" + std::to_string(i);
    list += (i > 0 ? ", " : "") + ("q." + name + "::VARCHAR");
    names += (i > 0 ? ", " : "") + name;
  }
  return OfTheStatement(connection->TextRows(
      "SELECT " + list + " FROM (" + sql + "\n) AS q(" + names + ")", query.on_row));
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

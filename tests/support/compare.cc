#include "support/compare.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include <duckdb.h>
#include <libpq-fe.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

namespace etl {
namespace {

using Rows = std::vector<std::vector<std::optional<std::string>>>;

Status Failed(std::string what, std::string why) {
  return MakeError(ErrorKind::kInternal, ErrorParts{.code = "ETL-TEST",
                                                    .what = std::move(what),
                                                    .why = std::move(why),
                                                    .safe = {},
                                                    .remedy = {}});
}

// The source, read in one snapshot.
class Source {
 public:
  explicit Source(const std::string& conninfo) : connection_(PQconnectdb(conninfo.c_str())) {}
  ~Source() { PQfinish(connection_); }
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  Result<Rows> Query(const std::string& sql) {
    std::unique_ptr<PGresult, decltype(&PQclear)> result(PQexec(connection_, sql.c_str()),
                                                         &PQclear);
    const ExecStatusType state = PQresultStatus(result.get());
    if (state != PGRES_COMMAND_OK && state != PGRES_TUPLES_OK)
      return Failed("source: " + sql, PQerrorMessage(connection_));
    Rows rows;
    for (int r = 0; r < PQntuples(result.get()); ++r) {
      auto& row = rows.emplace_back();
      for (int c = 0; c < PQnfields(result.get()); ++c) {
        if (PQgetisnull(result.get(), r, c)) {
          row.emplace_back(std::nullopt);
        } else {
          row.emplace_back(PQgetvalue(result.get(), r, c));
        }
      }
    }
    return rows;
  }

 private:
  PGconn* connection_;
};

// A private copy of the file: what another process would find after a power cut.
class FileCopy {
 public:
  explicit FileCopy(const std::string& path) {
    std::string pattern = (std::filesystem::temp_directory_path() / "etl-compare-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) return;
    folder_ = pattern;
    std::error_code ignored;
    std::filesystem::copy_file(path, folder_ + "/copy.duckdb", ignored);
    std::filesystem::copy_file(path + ".wal", folder_ + "/copy.duckdb.wal", ignored);
    char* message = nullptr;
    if (duckdb_open_ext((folder_ + "/copy.duckdb").c_str(), &database_, nullptr, &message) !=
        DuckDBSuccess) {
      error_ = message == nullptr ? "?" : message;
    } else if (duckdb_connect(database_, &connection_) != DuckDBSuccess) {
      error_ = "cannot connect";
    }
    duckdb_free(message);
    if (error_.empty()) (void)Query("SET threads TO 1");
  }
  ~FileCopy() {
    if (connection_ != nullptr) duckdb_disconnect(&connection_);
    if (database_ != nullptr) duckdb_close(&database_);
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  FileCopy(const FileCopy&) = delete;
  FileCopy& operator=(const FileCopy&) = delete;

  Result<Rows> Query(const std::string& sql) {
    if (!error_.empty()) return Failed("copy cannot be opened", error_);
    duckdb_result result;
    if (duckdb_query(connection_, sql.c_str(), &result) != DuckDBSuccess) {
      const char* message = duckdb_result_error(&result);
      Status status = Failed("copy: " + sql, message == nullptr ? "?" : message);
      duckdb_destroy_result(&result);
      return status;
    }
    Rows rows(duckdb_row_count(&result));
    const idx_t columns = duckdb_column_count(&result);
    for (idx_t r = 0; r < rows.size(); ++r) {
      for (idx_t c = 0; c < columns; ++c) {
        if (duckdb_value_is_null(&result, c, r)) {
          rows[r].emplace_back(std::nullopt);
        } else {
          const duckdb_string text = duckdb_value_string(&result, c, r);
          rows[r].emplace_back(std::string(text.data, text.size));
          duckdb_free(text.data);
        }
      }
    }
    duckdb_destroy_result(&result);
    return rows;
  }

 private:
  std::string folder_;
  std::string error_;
  duckdb_database database_ = nullptr;
  duckdb_connection connection_ = nullptr;
};

enum class Form { kText, kFloat, kJson };

struct Expressions {
  std::string source;
  std::string copy;
  Form form = Form::kText;
};

std::string DurationSql(const std::string& column, const std::string& part) {
  const auto field = [&](const char* name) { return part + name + " FROM " + column + ")"; };
  const auto whole = [&](const std::string& value) { return "(" + value + ")::numeric(30,0)"; };
  return whole(field("year") + "*12+" + field("month")) + "::text || ' ' || " +
         whole(field("day")) + "::text || ' ' || " +
         whole(field("hour") + "*3600000000+" + field("minute") + "*60000000+" +
               field("microseconds")) +
         "::text";
}

// `type` as format_type prints it.
Expressions ExpressionsFor(const std::string& name, const std::string& type, char kind) {
  const std::string c = Quote(name);
  const auto starts = [&](const char* prefix) { return type.rfind(prefix, 0) == 0; };
  if (type.ends_with("[]") || kind == 'c')
    return {"to_json(" + c + ")::text", "to_json(" + c + ")::VARCHAR", Form::kJson};
  if (starts("double precision") || starts("real"))
    return {c + "::text", c + "::VARCHAR", Form::kFloat};
  if (type == "boolean") return {c + "::text", c + "::VARCHAR"};
  if (type == "bytea") return {"encode(" + c + ", 'hex')", "lower(hex(" + c + "))"};
  if (starts("timestamp")) {
    return {"CASE WHEN isfinite(" + c + ") THEN (extract(epoch FROM " + c +
                ")*1000000)::numeric(30,0)::text ELSE " + c + "::text END",
            "CASE WHEN isfinite(" + c + ") THEN epoch_us(" + c + ")::VARCHAR ELSE " + c +
                "::VARCHAR END"};
  }
  if (type == "date") {
    return {"CASE WHEN isfinite(" + c + ") THEN (" + c + " - date '2000-01-01')::text ELSE " + c +
                "::text END",
            "CASE WHEN isfinite(" + c + ") THEN (" + c + " - DATE '2000-01-01')::VARCHAR ELSE " +
                c + "::VARCHAR END"};
  }
  if (starts("interval")) {
    return {DurationSql(c, "extract("), DurationSql(c, "extract("), Form::kText};
  }
  // As the server prints it: a cast to text adds a mask to inet.
  return {"CASE WHEN " + c + " IS NOT NULL THEN format('%s', " + c + ") END", c + "::VARCHAR"};
}

std::string Canonical(const std::optional<std::string>& value, Form form) {
  if (!value) return "\x01NULL";
  if (form == Form::kFloat) {
    char text[64];
    const double number = std::strtod(value->c_str(), nullptr);
    if (std::isnan(number)) return "NaN";
    std::snprintf(text, sizeof text, "%.17g", number);
    return text;
  }
  if (form == Form::kJson) {
    const auto parsed = nlohmann::json::parse(*value, nullptr, false);
    return parsed.is_discarded() ? *value : parsed.dump();
  }
  return *value;
}

std::string Shorten(const std::string& text) {
  return text.size() > 60 ? text.substr(0, 50) + "…(" + std::to_string(text.size()) + ")" : text;
}

// Rows as sorted lists of canonical values.
std::vector<std::vector<std::string>> Canonicalise(const Rows& rows,
                                                   const std::vector<Form>& forms) {
  std::vector<std::vector<std::string>> out;
  out.reserve(rows.size());
  for (const auto& row : rows) {
    auto& values = out.emplace_back();
    for (size_t c = 0; c < row.size(); ++c) values.push_back(Canonical(row[c], forms[c]));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string CompareTable(Source& source, FileCopy& copy, const std::string& schema,
                         const std::string& table) {
  const std::string name = schema + "." + table;
  const auto columns = source.Query(
      "SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typtype FROM "
      "pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = "
      "c.relnamespace JOIN pg_type t ON t.oid = a.atttypid WHERE a.attnum > 0 AND NOT "
      "a.attisdropped AND a.attgenerated = '' AND n.nspname = " +
      Literal(schema) + " AND c.relname = " + Literal(table) + " ORDER BY a.attnum");
  if (!columns.ok()) return ErrorLine(columns.status());
  const auto found = copy.Query(
      "SELECT column_name FROM information_schema.columns WHERE table_catalog = "
      "current_database() AND table_schema = " +
      Literal(schema) + " AND table_name = " + Literal(table) + " ORDER BY ordinal_position");
  if (!found.ok()) return ErrorLine(found.status());
  if (found->empty()) return name + ": not in the copy\n";
  std::vector<std::string> here, there;
  std::string source_list, copy_list;
  std::vector<Form> forms;
  for (const auto& column : *columns) {
    here.push_back(*column[0]);
    const Expressions each = ExpressionsFor(*column[0], *column[1], (*column[2])[0]);
    source_list += (source_list.empty() ? "" : ", ") + each.source;
    copy_list += (copy_list.empty() ? "" : ", ") + each.copy;
    forms.push_back(each.form);
  }
  for (const auto& column : *found) there.push_back(*column[0]);
  std::vector<std::string> sorted_here = here, sorted_there = there;
  std::sort(sorted_here.begin(), sorted_here.end());
  std::sort(sorted_there.begin(), sorted_there.end());
  if (sorted_here != sorted_there)
    return name + ": columns differ: source " + ShowTexts(here) + "; copy " + ShowTexts(there) +
           "\n";
  const auto source_rows =
      source.Query("SELECT " + source_list + " FROM " + Quote(schema) + "." + Quote(table));
  if (!source_rows.ok()) return ErrorLine(source_rows.status()) + "\n";
  const auto database = copy.Query("SELECT current_database()");
  if (!database.ok()) return ErrorLine(database.status()) + "\n";
  const auto copy_rows = copy.Query("SELECT " + copy_list + " FROM " + Quote(*(*database)[0][0]) +
                                    "." + Quote(schema) + "." + Quote(table));
  if (!copy_rows.ok()) return ErrorLine(copy_rows.status()) + "\n";
  const auto left = Canonicalise(*source_rows, forms);
  const auto right = Canonicalise(*copy_rows, forms);
  return DescribeDifferences(name, left, right, {.columns = here, .other = "copy"});
}

}  // namespace

std::string Quote(const std::string& name) {
  std::string out = "\"";
  for (char c : name) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string Literal(const std::string& text) {
  std::string out = "'";
  for (char c : text) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

std::string ShowTexts(const std::vector<std::string>& row) {
  std::string out;
  for (const std::string& value : row) out += (out.empty() ? "" : " | ") + Shorten(value);
  return out;
}

// Both sorted.
std::string DescribeDifferences(const std::string& name, const TextRows& source,
                                const TextRows& other, const DifferenceNames& names) {
  if (source == other) return "";
  TextRows missing, surplus;
  std::set_difference(source.begin(), source.end(), other.begin(), other.end(),
                      std::back_inserter(missing));
  std::set_difference(other.begin(), other.end(), source.begin(), source.end(),
                      std::back_inserter(surplus));
  std::ostringstream text;
  text << name << ": source " << source.size() << " rows, " << names.other << " " << other.size()
       << "; " << missing.size() << " only in the source, " << surplus.size() << " only in the "
       << names.other << " (" << ShowTexts(names.columns) << ")\n";
  for (size_t i = 0; i < std::min<size_t>(missing.size(), 4); ++i)
    text << "  only in the source: " << ShowTexts(missing[i]) << "\n";
  for (size_t i = 0; i < std::min<size_t>(surplus.size(), 4); ++i)
    text << "  only in the " << names.other << ": " << ShowTexts(surplus[i]) << "\n";
  return text.str();
}

std::string Differences(const std::string& conninfo, const std::string& duckdb_path,
                        const CompareOptions& options) {
  Source source(conninfo + " client_encoding=UTF8");
  for (const char* setting : {"SET timezone = 'UTC'", "SET datestyle = ISO", "SET search_path = ''",
                              "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"}) {
    const auto done = source.Query(setting);
    if (!done.ok()) return ErrorLine(done.status());
  }
  const auto tables = source.Query(
      "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE pubname = " +
      Literal(options.publication) + " ORDER BY 1, 2");
  if (!tables.ok()) return ErrorLine(tables.status());
  if (tables->empty()) return "the publication holds no table\n";
  FileCopy copy(duckdb_path);
  (void)copy.Query("SET TimeZone = 'UTC'");
  std::string text;
  std::set<std::pair<std::string, std::string>> known;
  for (const auto& table : *tables) {
    known.emplace(*table[0], *table[1]);
    text += CompareTable(source, copy, *table[0], *table[1]);
  }
  const auto held = copy.Query(
      "SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = "
      "current_database() AND table_schema <> '_etl'");
  if (!held.ok()) return text + ErrorLine(held.status());
  for (const auto& table : *held) {
    const bool shadow = table[1]->rfind("_etl_", 0) == 0;
    if (known.contains({*table[0], *table[1]}) || (!shadow && !options.extra_is_difference))
      continue;
    text += *table[0] + "." + *table[1] + ": only in the copy\n";
  }
  return text;
}

Result<Rows> QuerySource(const std::string& conninfo, const std::string& sql) {
  Source source(conninfo + " client_encoding=UTF8 options='-c client_min_messages=error'");
  return source.Query(sql);
}

Result<Rows> QueryDuckDb(const std::string& path, const std::string& sql) {
  FileCopy copy(path);
  return copy.Query(sql);
}

Status ExecuteDuckDb(const std::string& path, const std::string& sql) {
  duckdb_database database = nullptr;
  duckdb_connection connection = nullptr;
  if (duckdb_open(path.c_str(), &database) != DuckDBSuccess) return Failed("cannot open", path);
  Status status;
  if (duckdb_connect(database, &connection) != DuckDBSuccess) {
    status = Failed("cannot connect", path);
  } else {
    duckdb_result result;
    if (duckdb_query(connection, sql.c_str(), &result) != DuckDBSuccess)
      status = Failed(sql, duckdb_result_error(&result));
    duckdb_destroy_result(&result);
    duckdb_disconnect(&connection);
  }
  duckdb_close(&database);
  return status;
}

}  // namespace etl

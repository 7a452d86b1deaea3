#include "support/compare_snowflake.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>
#include <vector>

#include "support/compare.h"

namespace etl {
namespace {

using Json = nlohmann::json;

// Plain lower-case names are kept in upper case (identifiers: upper).
std::string Folded(const std::string& name) {
  const bool plain = !name.empty() && (name[0] < '0' || name[0] > '9') &&
                     std::all_of(name.begin(), name.end(), [](char c) {
                       return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
                     });
  std::string out = name;
  if (plain)
    std::transform(out.begin(), out.end(), out.begin(),
                   [](char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

enum class Form { kText, kFloat, kHex, kJson };

struct Asked {
  std::string sql;
  Form form = Form::kText;
};

std::string InYears(const std::string& column, const std::string& sql) {
  return "CASE WHEN isfinite(" + column + ") AND extract(year FROM " + column +
         ") BETWEEN 1 AND 9999 THEN " + sql + " END";
}

// Seconds with nine decimals, as the SQL API writes times.
std::string Seconds(const std::string& column) {
  return "extract(epoch FROM " + column + ")::numeric(30,9)::text";
}

// `type` as format_type prints it.
Asked AskFor(const std::string& name, const std::string& type, char kind) {
  const std::string c = Quote(name);
  const auto starts = [&](const char* prefix) { return type.rfind(prefix, 0) == 0; };
  if (type.ends_with("[]") || kind == 'c') return {"to_json(" + c + ")::text", Form::kJson};
  if (starts("double precision") || starts("real")) return {c + "::text", Form::kFloat};
  if (type == "bytea") return {"encode(" + c + ", 'hex')", Form::kHex};
  if (starts("timestamp") && type.ends_with("with time zone"))
    return {InYears(c, Seconds(c) + " || ' 1440'")};
  if (starts("timestamp")) return {InYears(c, Seconds(c))};
  if (type == "date") return {InYears(c, "(" + c + " - date '1970-01-01')::text")};
  if (starts("time ") && type.ends_with("without time zone"))
    return {"CASE WHEN " + c + " < time '24:00' THEN " + Seconds(c) + " END"};
  if (type == "boolean" || starts("interval")) return {c + "::text"};
  // As the server prints it: a cast to text adds a mask to inet.
  return {"CASE WHEN " + c + " IS NOT NULL THEN format('%s', " + c + ") END"};
}

std::string Canonical(const std::optional<std::string>& value, Form form) {
  if (!value) return "\x01NULL";
  switch (form) {
    case Form::kFloat: {
      const double number = std::strtod(value->c_str(), nullptr);
      if (std::isnan(number)) return "NaN";
      char text[64];
      // Both zeros are equal to Snowflake, too.
      std::snprintf(text, sizeof text, "%.17g", number + 0.0);
      return text;
    }
    case Form::kHex: {
      std::string text = *value;
      std::transform(text.begin(), text.end(), text.begin(),
                     [](char c) { return static_cast<char>(std::tolower(c)); });
      return text;
    }
    case Form::kJson: {
      const Json parsed = Json::parse(*value, nullptr, false);
      return parsed.is_discarded() ? *value : parsed.dump();
    }
    case Form::kText: break;
  }
  return *value;
}

using Row = std::vector<std::string>;

std::string CompareTable(const std::string& conninfo, const SnowflakeRows& rows_of,
                         const std::string& schema, const std::string& table,
                         const std::string& target_schema) {
  const std::string name = schema + "." + table;
  const auto columns = QuerySource(
      conninfo,
      "SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typtype FROM "
      "pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = "
      "c.relnamespace JOIN pg_type t ON t.oid = a.atttypid WHERE a.attnum > 0 AND NOT "
      "a.attisdropped AND a.attgenerated = '' AND n.nspname = " +
          Literal(schema) + " AND c.relname = " + Literal(table) + " ORDER BY a.attnum");
  if (!columns.ok()) return ErrorLine(columns.status());
  std::string list;
  std::vector<Form> forms;
  Row names;
  for (const auto& column : *columns) {
    const Asked asked = AskFor(*column[0], *column[1], (*column[2])[0]);
    list += (list.empty() ? "" : ", ") + asked.sql;
    forms.push_back(asked.form);
    names.push_back(Folded(*column[0]));
  }
  const auto here =
      QuerySource(conninfo, "SET timezone = 'UTC'; SET intervalstyle = iso_8601; SELECT " + list +
                                " FROM " + Quote(schema) + "." + Quote(table));
  if (!here.ok()) return ErrorLine(here.status()) + "\n";
  std::vector<Row> left, right;
  for (const auto& row : *here) {
    Row& values = left.emplace_back();
    for (size_t c = 0; c < row.size(); ++c) values.push_back(Canonical(row[c], forms[c]));
  }
  const Json there = rows_of(target_schema, Folded(table));
  if (!there.is_array()) return name + ": not in the target\n";
  for (const Json& row : there) {
    if (row.size() != names.size()) return name + ": columns differ: " + row.dump() + "\n";
    Row& values = right.emplace_back();
    for (size_t c = 0; c < names.size(); ++c) {
      if (!row.contains(names[c])) return name + ": no column " + names[c] + " in the target\n";
      const Json& value = row.at(names[c]);
      values.push_back(Canonical(
          value.is_null() ? std::nullopt : std::optional(value.get<std::string>()), forms[c]));
    }
  }
  std::sort(left.begin(), left.end());
  std::sort(right.begin(), right.end());
  return DescribeDifferences(name, left, right, {.columns = names, .other = "target"});
}

}  // namespace

std::string SnowflakeDifferences(const std::string& conninfo, const SnowflakeRows& rows_of,
                                 const SnowflakeCompareOptions& options) {
  const auto tables =
      QuerySource(conninfo,
                  "SELECT schemaname, tablename FROM pg_catalog.pg_publication_tables WHERE "
                  "pubname = " +
                      Literal(options.publication) + " ORDER BY 1, 2");
  if (!tables.ok()) return ErrorLine(tables.status());
  if (tables->empty()) return "the publication holds no table\n";
  std::string text;
  for (const auto& table : *tables) {
    std::string target = options.schema;
    if (const size_t at = target.find("{schema}"); at != std::string::npos)
      target.replace(at, 8, *table[0]);
    text += CompareTable(conninfo, rows_of, *table[0], *table[1], Folded(target));
  }
  return text;
}

}  // namespace etl

#include "destination/snowflake/identifiers.h"

#include <algorithm>
#include <charconv>
#include <map>

#include <fmt/format.h>

namespace etl {
namespace {

char Upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

std::string ToUpper(std::string_view text) {
  std::string upper(text);
  std::transform(upper.begin(), upper.end(), upper.begin(), Upper);
  return upper;
}

/// What PostgreSQL and Snowflake both take without quotes.
bool PlainLower(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9') || name[0] == '$') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
  });
}

constexpr std::string_view kSchemaPlace = "{schema}";

std::string Replace(std::string text, std::string_view place, const std::string& value) {
  for (size_t at = text.find(place); at != std::string::npos;
       at = text.find(place, at + value.size()))
    text.replace(at, place.size(), value);
  return text;
}

size_t Characters(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string snowflake_dialect::QuoteIdentifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string snowflake_dialect::QuoteLiteral(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string SnowflakeName::Sql() const {
  return QuoteIdentifier(database) + "." + QuoteIdentifier(schema) + "." + QuoteIdentifier(name);
}

SnowflakeNames::SnowflakeNames(SnowflakeNaming naming)
    : naming_(std::move(naming)),
      database_(Fold(naming_.database)),
      landing_schema_(Fold(naming_.landing_schema)) {}

std::string SnowflakeNames::Fold(std::string_view name) const {
  const bool fold = naming_.identifiers == IdentifierCase::kUpper && PlainLower(name);
  return fold ? ToUpper(name) : std::string(name);
}

SnowflakeName SnowflakeNames::Target(const TableSchema& table) const {
  // The parts fold one by one: `raw_{schema}` is folded where the source's schema is not.
  std::string schema;
  if (naming_.schema.find(kSchemaPlace) == std::string::npos) {
    schema = Fold(naming_.schema);
  } else {
    const std::string rest = Replace(naming_.schema, kSchemaPlace, "");
    std::string pattern = naming_.schema;
    if (!rest.empty() && Fold("_" + rest) != "_" + rest)
      pattern = Replace(ToUpper(pattern), "{SCHEMA}", std::string(kSchemaPlace));
    schema = Replace(pattern, kSchemaPlace, Fold(table.schema));
  }
  return {database_, schema, Fold(table.name)};
}

std::string SnowflakeNames::Suffix(const TableSchema& table) const {
  if (naming_.schema.find(kSchemaPlace) == std::string::npos) return Fold(table.name);
  return Fold(table.schema) + "_" + Fold(table.name);
}

SnowflakeName SnowflakeNames::Landing(const TableSchema& table) const {
  return {database_, landing_schema_, "LANDING_" + Suffix(table)};
}

SnowflakeName SnowflakeNames::Pipe(const TableSchema& table) const {
  SnowflakeName pipe = Landing(table);
  pipe.name += "-STREAMING";
  return pipe;
}

SnowflakeName SnowflakeNames::Task(const TableSchema& table) const {
  return {database_, landing_schema_, "ETL_MERGE_" + Suffix(table) + "_TASK"};
}

SnowflakeName SnowflakeNames::Beside(std::string_view prefix, const std::string& pipeline,
                                     const TableSchema& table) const {
  SnowflakeName name = Target(table);
  name.name = fmt::format("{}{}_{}", prefix, ToUpper(pipeline), table.id.oid);
  return name;
}

SnowflakeName SnowflakeNames::Shadow(const std::string& pipeline, const TableSchema& table,
                                     uint32_t generation) const {
  SnowflakeName name = Beside("_ETL_SHADOW_", pipeline, table);
  name.name += fmt::format("_{}_{}", generation, table.version);
  return name;
}

SnowflakeName SnowflakeNames::Retired(const std::string& pipeline, const TableSchema& table) const {
  return Beside("_ETL_RETIRED_", pipeline, table);
}

SnowflakeName SnowflakeNames::Progress() const {
  return {database_, landing_schema_, "_ETL_PROGRESS"};
}

SnowflakeName SnowflakeNames::Watermark() const {
  return {database_, landing_schema_, "_ETL_WATERMARK"};
}

std::string PositionText(const Position& position) {
  return fmt::format("{:016x}/{:016x}", position.commit.value, position.ordinal);
}

std::optional<Position> ParsePositionText(std::string_view text) {
  Position position;
  if (text.size() != 33 || text[16] != '/') return std::nullopt;
  const char* at = text.data();
  const auto commit = std::from_chars(at, at + 16, position.commit.value, 16);
  const auto ordinal = std::from_chars(at + 17, at + 33, position.ordinal, 16);
  if (commit.ptr != at + 16 || ordinal.ptr != at + 33) return std::nullopt;
  return position;
}

std::string BoundaryText(Lsn boundary) { return fmt::format("{:016x}", boundary.value); }

std::vector<std::string> NameProblems(const SnowflakeNames& names,
                                      const std::vector<TableSchemaPtr>& tables) {
  std::vector<std::string> problems;
  std::map<SnowflakeName, std::string> taken{{names.Progress(), "the engine's bookkeeping"},
                                             {names.Watermark(), "the engine's bookkeeping"}};
  const auto take = [&](const SnowflakeName& name, const std::string& owner) {
    const auto [found, added] = taken.emplace(name, owner);
    if (!added)
      problems.push_back(
          fmt::format("{} and {} would both be {}", found->second, owner, name.Sql()));
  };
  for (const TableSchemaPtr& table : tables) {
    const std::string who = table->QualifiedName();
    const SnowflakeName target = names.Target(*table);
    take(target, who);
    take(names.Landing(*table), "the landing table of " + who);
    if (target.name.starts_with("_ETL_"))
      problems.push_back(fmt::format("{}: names beginning with _ETL_ are the engine's own", who));
    for (const std::string& part : {target.schema, names.Task(*table).name}) {
      if (Characters(part) > kIdentifierLimit)
        problems.push_back(fmt::format("{}: the name {} is longer than {} characters", who, part,
                                       kIdentifierLimit));
    }
    if (table->columns.empty()) problems.push_back(who + ": a table needs a column");
    std::map<std::string, std::string> columns;
    for (const char* own : {kOpColumn, kPositionColumn, kCommitTimeColumn, kUnchangedColumn})
      columns.emplace(own, "a column of the landing table");
    for (const Column& column : table->columns) {
      const auto [found, added] = columns.emplace(names.Fold(column.name), column.name);
      if (!added)
        problems.push_back(fmt::format("{}: {} and column {} would both be {}", who, found->second,
                                       column.name, QuoteIdentifier(found->first)));
      else if (found->first.starts_with("_ETL_PASSING_") || found->first == "_ETL_ALTERING")
        problems.push_back(
            fmt::format("{}: column {}: that name is the engine's own", who, column.name));
    }
  }
  return problems;
}

}  // namespace etl

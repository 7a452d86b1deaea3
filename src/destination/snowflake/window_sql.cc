#include "destination/snowflake/window_sql.h"

#include <algorithm>

#include <fmt/format.h>

#include "destination/snowflake/snowflake_types.h"

namespace etl {
namespace {

constexpr const char* kSoFar = "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW";

void Append(std::string* list, const std::string& item, const char* separator = ", ") {
  if (!list->empty()) *list += separator;
  *list += item;
}

}  // namespace

WindowSql::WindowSql(const SnowflakeTable& table, WindowBounds bounds)
    : table_(table),
      bounds_(std::move(bounds)),
      landing_(table.names.Landing(*table.schema).Sql()) {
  const TableSchema& schema = *table.schema;
  if (schema.identity != Identity::kKey || schema.full_images) return;
  for (int i = 0; i < columns(); ++i) {
    const bool key = std::find(schema.key.begin(), schema.key.end(), i) != schema.key.end();
    if (!key && MayBeUnsent(*schema.columns[static_cast<size_t>(i)].type)) unsent_.push_back(i);
  }
}

std::string WindowSql::Stored(int column) const {
  return QuoteIdentifier(
      table_.names.Fold(table_.schema->columns[static_cast<size_t>(column)].name));
}

std::string WindowSql::StoredColumns(const std::string& alias) const {
  std::string list;
  for (int i = 0; i < columns(); ++i) Append(&list, alias + Stored(i));
  return list;
}

std::string WindowSql::PlainColumns(const std::string& alias) const {
  std::string list;
  for (int i = 0; i < columns(); ++i) Append(&list, fmt::format("{}C{}", alias, i));
  return list;
}

std::string WindowSql::Selected() const {
  std::string list;
  for (int i = 0; i < columns(); ++i) Append(&list, fmt::format("l.{} AS C{}", Stored(i), i));
  return list;
}

std::string WindowSql::Comparable(int column, const std::string& value) const {
  const bool variant = IsVariant(*table_.schema->columns[static_cast<size_t>(column)].type);
  return variant ? "TO_JSON(" + value + ")" : value;
}

std::string WindowSql::SameKey(const std::string& a, const std::string& b) const {
  std::string text;
  for (const int i : table_.schema->key)
    Append(&text,
           Comparable(i, fmt::format("{}.C{}", a, i)) + " = " +
               Comparable(i, fmt::format("{}.C{}", b, i)),
           " AND ");
  return text;
}

std::string WindowSql::TargetKey(const std::string& target, const std::string& rows,
                                 char prefix) const {
  std::string text;
  for (const int i : table_.schema->key)
    Append(&text,
           Comparable(i, target + "." + Stored(i)) + " = " +
               Comparable(i, fmt::format("{}.{}{}", rows, prefix, i)),
           " AND ");
  return text;
}

std::string WindowSql::PartitionKey(const std::string& alias) const {
  std::string text;
  for (const int i : table_.schema->key)
    Append(&text, Comparable(i, fmt::format("{}C{}", alias, i)));
  return text;
}

std::string WindowSql::InRange() const {
  const std::string position = "l." + QuoteIdentifier(kPositionColumn);
  std::string text = position + " >= " + bounds_.low + " AND " + position + " < " + bounds_.high;
  // A commit record begins at a multiple of 8; what the engine reads stands just before a boundary.
  if (!bounds_.settled) text += " AND SUBSTR(" + position + ", 16, 1) IN ('0', '8')";
  return text;
}

std::string WindowSql::Changes() const {
  const std::string position = QuoteIdentifier(kPositionColumn);
  const std::string op = QuoteIdentifier(kOpColumn);
  const std::string unchanged = "l." + QuoteIdentifier(kUnchangedColumn);
  std::string flags;
  for (const int i : unsent_) {
    const std::string& name = table_.schema->columns[static_cast<size_t>(i)].name;
    flags += fmt::format(", COALESCE(ARRAY_CONTAINS({}::VARIANT, {}), FALSE) AS N{}",
                         QuoteLiteral(table_.names.Fold(name)), unchanged, i);
  }
  return fmt::format(
      "W AS (SELECT l.{0} AS POS, l.{1} AS OP, l.{1} = 'I' AND {2} IS NOT NULL AS MOVED, {3}{4} "
      "FROM {5} AS l WHERE {6} AND l.{1} IN ('I', 'U', 'D') AND l.{0} > COALESCE((SELECT "
      "MAX(l.{0}) FROM {5} AS l WHERE {6} AND l.{1} = 'T'), '') QUALIFY ROW_NUMBER() OVER "
      "(PARTITION BY l.{0} ORDER BY l.{0}) = 1)",
      position, op, unchanged, Selected(), flags, landing_, InRange());
}

/// B: each change with the segment it belongs to, the life of one key from an insert on (or from
/// before the window) to a delete; SEG is the position of the segment's first change. M: a moved
/// segment continues the one that its D(old) ended. L: the first segment of each such chain.
std::string WindowSql::Lines() const {
  return fmt::format(
      "B AS (SELECT W.*, COALESCE(MAX(CASE WHEN OP = 'I' THEN POS END) OVER (PARTITION BY {0} "
      "ORDER BY POS {1}), MIN(POS) OVER (PARTITION BY {0})) AS SEG FROM W), "
      // The ordinal before an odd one differs in its last digit only.
      "M AS (SELECT m.POS AS SEG, d.SEG AS PARENT FROM B AS m JOIN B AS d ON d.POS = "
      "SUBSTR(m.POS, 1, 32) || TRANSLATE(SUBSTR(m.POS, 33, 1), '13579bdf', '02468ace') WHERE "
      "m.MOVED), "
      "L (SEG, ROOT) AS (SELECT m.SEG, m.PARENT FROM M AS m LEFT JOIN M AS p ON p.SEG = m.PARENT "
      "WHERE p.SEG IS NULL UNION ALL SELECT m.SEG, L.ROOT FROM L JOIN M AS m ON m.PARENT = L.SEG), "
      "X AS (SELECT B.*, COALESCE(L.ROOT, B.SEG) AS LINE, L.ROOT IS NOT NULL AS ALIEN FROM B LEFT "
      "JOIN L ON L.SEG = B.SEG)",
      PartitionKey(""), kSoFar);
}

/// F from `rows`: the last row of each key. An unsent value is the last one sent in its line: with
/// NULLs left out, unless a NULL was sent after it. Columns are qualified: an alias has the same
/// name.
std::string WindowSql::LastStates(const std::string& rows, const std::string& line,
                                  bool moves) const {
  std::string list;
  const std::string over = fmt::format(" OVER (PARTITION BY {} ORDER BY v.POS {})", line, kSoFar);
  for (int i = 0; i < columns(); ++i) {
    if (std::find(unsent_.begin(), unsent_.end(), i) == unsent_.end()) {
      list += fmt::format(", v.C{}", i);
      continue;
    }
    const std::string sent = fmt::format("v.OP <> 'D' AND NOT v.N{}", i);
    const std::string sent_at = fmt::format("MAX(CASE WHEN {} THEN v.POS END){}", sent, over);
    list += fmt::format(
        ", CASE WHEN MAX(CASE WHEN {0} AND v.C{1} IS NOT NULL THEN v.POS END){2} = {3} THEN "
        "LAST_VALUE(CASE WHEN {0} THEN v.C{1} END) IGNORE NULLS{2} END AS C{1}, {3} IS NULL AS "
        "U{1}",
        sent, i, over, sent_at);
  }
  if (moves) {
    for (const int i : table_.schema->key)
      list += fmt::format(", FIRST_VALUE(v.C{0}){1} AS O{0}", i, over);
    list += ", v.ALIEN";
  }
  return fmt::format(
      "F AS (SELECT v.POS, v.OP{} FROM {} AS v QUALIFY ROW_NUMBER() OVER (PARTITION BY {} ORDER BY "
      "v.POS DESC) = 1)",
      list, rows, PartitionKey("v."));
}

std::string WindowSql::FinalStates(bool moves) const {
  if (moves && !unsent_.empty())
    return "WITH RECURSIVE " + Changes() + ", " + Lines() + ", " + LastStates("X", "v.LINE", true);
  return "WITH " + Changes() + ", " + LastStates("W", PartitionKey("v."), false);
}

}  // namespace etl

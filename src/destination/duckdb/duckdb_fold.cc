#include "destination/duckdb/duckdb_fold.h"

#include <algorithm>
#include <charconv>

#include <arrow/api.h>
#include <fmt/format.h>

#include "base/failpoint.h"
#include "destination/duckdb/duckdb_apply.h"

namespace etl {
namespace {

std::string PendingName(const Column& column) { return "c" + std::to_string(column.attnum); }

/// A position as one number, so that the latest is a maximum.
constexpr const char* kLsnUnit = "18446744073709551616::UHUGEINT";
constexpr const char* kPosition = "(lsn::UHUGEINT * 18446744073709551616::UHUGEINT + ordinal)";

template <typename T>
T Parse(const std::string& text) {
  T value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

std::string PendingDefinitions(const TableSchema& schema) {
  std::string text;
  for (const Column& column : schema.columns)
    text += PendingName(column) + " " + DuckDbTypeName(*column.type) + ", ";
  return text + "op VARCHAR, lsn UBIGINT, ordinal UBIGINT, xid UINTEGER, unsent SMALLINT[]";
}

DuckDbFold::DuckDbFold(DuckDbConnection& connection, const TableSchema& schema, FoldTables tables,
                       Lsn ignore_below, int64_t memory_bytes)
    : connection_(connection),
      schema_(schema),
      tables_(std::move(tables)),
      ignore_below_(ignore_below),
      memory_bytes_(memory_bytes) {}

std::string DuckDbFold::KeyColumns(const std::string& alias) const {
  std::string text;
  for (const int key : schema_.key) {
    if (!text.empty()) text += ", ";
    text += alias + "." + PendingName(schema_.columns[static_cast<size_t>(key)]);
  }
  return text;
}

std::string DuckDbFold::KeyUsing(const std::string& a, const std::string& b) const {
  std::string text;
  for (const int key : schema_.key) {
    const std::string name = PendingName(schema_.columns[static_cast<size_t>(key)]);
    text += fmt::format("{}{}.{} = {}.{}", text.empty() ? "" : " AND ", a, name, b, name);
  }
  return text;
}

std::string DuckDbFold::ShadowKeyUsing(const std::string& shadow, const std::string& other) const {
  std::string text;
  for (const int key : schema_.key) {
    const Column& column = schema_.columns[static_cast<size_t>(key)];
    text += fmt::format("{}{}.{} = {}.{}", text.empty() ? "" : " AND ", shadow,
                        QuoteIdentifier(column.name), other, PendingName(column));
  }
  return text;
}

std::string DuckDbFold::ShadowColumns() const {
  std::string text;
  for (const Column& column : schema_.columns)
    text += (text.empty() ? "" : ", ") + QuoteIdentifier(column.name);
  return text;
}

Result<bool> DuckDbFold::FindStart() {
  counts_ = fmt::format("op <> 't' AND lsn >= {}", ignore_below_.value);
  ETL_ASSIGN_OR_RETURN(
      auto rows, connection_.Rows(fmt::format(
                     "SELECT lsn::VARCHAR, ordinal::VARCHAR FROM {} WHERE op = 't' AND lsn >= {} "
                     "ORDER BY lsn DESC, ordinal DESC LIMIT 1",
                     tables_.pending.Sql(), ignore_below_.value)));
  if (rows.empty()) return false;
  // The table was empty there: copied rows and earlier changes are void (rule C7).
  counts_ +=
      fmt::format(" AND (lsn > {0} OR (lsn = {0} AND ordinal > {1}))", *rows[0][0], *rows[0][1]);
  return true;
}

Result<FoldOutcome> DuckDbFold::Run() {
  FoldOutcome outcome;
  ETL_ASSIGN_OR_RETURN(const int64_t changes,
                       connection_.Number("SELECT count(*) FROM " + tables_.pending.Sql()));
  if (changes == 0) {
    // Every copied row stays (rule F1): so it is with most of many small tables.
    ETL_FAILPOINT("duckdb.fold.middle");
    return outcome;
  }
  ETL_ASSIGN_OR_RETURN(const bool truncated, FindStart());
  if (truncated) {
    ETL_RETURN_IF_ERROR(connection_
                            .Execute("CREATE OR REPLACE TABLE " + tables_.shadow.Sql() + "(" +
                                     ColumnDefinitions(schema_) + ")")
                            .status());
  }
  switch (schema_.identity) {
    case Identity::kKey: ETL_RETURN_IF_ERROR(RunKeyed(&outcome)); break;
    case Identity::kFullRow: ETL_RETURN_IF_ERROR(RunFullRows(&outcome)); break;
    case Identity::kNone: {
      std::string columns;
      for (const Column& column : schema_.columns)
        columns += (columns.empty() ? "" : ", ") + PendingName(column);
      ETL_RETURN_IF_ERROR(connection_
                              .Execute(fmt::format("INSERT INTO {}({}) SELECT {} FROM {} WHERE {}",
                                                   tables_.shadow.Sql(), ShadowColumns(), columns,
                                                   tables_.pending.Sql(), counts_))
                              .status());
      break;
    }
  }
  ETL_RETURN_IF_ERROR(connection_
                          .Execute("DROP TABLE IF EXISTS temp.main._etl_last; "
                                   "DROP TABLE IF EXISTS temp.main._etl_final")
                          .status());
  return outcome;
}

Result<FoldOutcome> DuckDbFold::FindMissing() {
  FoldOutcome outcome;
  ETL_RETURN_IF_ERROR(FindStart().status());
  ETL_ASSIGN_OR_RETURN(const int64_t partial, FindLast());
  if (partial > 0) ETL_RETURN_IF_ERROR(ResolveUnsent(&outcome));
  return outcome;
}

Result<int64_t> DuckDbFold::FindLast() {
  // The last change of each key. Only positions go through the window; arg_max of rows would not
  // fit in memory.
  ETL_RETURN_IF_ERROR(
      connection_
          .Execute(fmt::format(
              "CREATE OR REPLACE TEMP TABLE _etl_last AS SELECT lsn, ordinal, op, partial FROM "
              "(SELECT lsn, ordinal, op, unsent IS NOT NULL AND op <> 'd' AS partial, "
              "row_number() OVER (PARTITION BY {} ORDER BY lsn DESC, ordinal DESC) AS rn FROM {} p "
              "WHERE {}) WHERE rn = 1",
              KeyColumns("p"), tables_.pending.Sql(), counts_))
          .status());
  return connection_.Number("SELECT count(*) FROM temp.main._etl_last WHERE partial");
}

Status DuckDbFold::RunKeyed(FoldOutcome* outcome) {
  ETL_ASSIGN_OR_RETURN(const int64_t partial, FindLast());
  if (partial > 0) {
    ETL_RETURN_IF_ERROR(ResolveUnsent(outcome));
    if (outcome->missing != nullptr) return Status::OK();
  }
  ETL_RETURN_IF_ERROR(DeleteTouched());
  ETL_FAILPOINT("duckdb.fold.middle");
  std::string columns;
  for (const Column& column : schema_.columns)
    columns += (columns.empty() ? "p." : ", p.") + PendingName(column);
  ETL_RETURN_IF_ERROR(
      connection_
          .Execute(fmt::format("INSERT INTO {}({}) SELECT {} FROM {} p JOIN temp.main._etl_last l "
                               "ON p.lsn = l.lsn AND p.ordinal = l.ordinal WHERE l.op <> 'd' AND "
                               "NOT l.partial AND p.op <> 't'",
                               tables_.shadow.Sql(), ShadowColumns(), columns,
                               tables_.pending.Sql()))
          .status());
  if (partial == 0) return Status::OK();
  return connection_
      .Execute(fmt::format("INSERT INTO {}({}) SELECT {} FROM temp.main._etl_final p",
                           tables_.shadow.Sql(), ShadowColumns(), columns))
      .status();
}

Status DuckDbFold::ResolveUnsent(FoldOutcome* outcome) {
  const std::string pending = tables_.pending.Sql();
  const std::string last = "temp.main._etl_last l ON p.lsn = l.lsn AND p.ordinal = l.ordinal";
  ETL_ASSIGN_OR_RETURN(
      const auto attnums,
      connection_.Rows(fmt::format("SELECT DISTINCT unnest(p.unsent)::VARCHAR FROM {} p JOIN {} "
                                   "WHERE l.partial",
                                   pending, last)));
  unsent_.clear();
  for (const TextRow& row : attnums) {
    const auto attnum = Parse<int16_t>(*row[0]);
    if (schema_.ColumnByAttnum(attnum) >= 0) unsent_.insert(attnum);
  }
  ETL_RETURN_IF_ERROR(GatherSources(unsent_));

  std::string columns, joins, taken, missing = "false";
  for (const Column& column : schema_.columns) {
    const std::string name = PendingName(column);
    if (!columns.empty()) columns += ", ";
    if (!unsent_.contains(column.attnum)) {
      columns += "n." + name;
      continue;
    }
    const std::string unknown =
        fmt::format("coalesce(list_contains(n.unsent, {}), false)", column.attnum);
    const std::string sent =
        fmt::format("coalesce(s.e{} >= coalesce(s.broken, 0), false)", column.attnum);
    const std::string copied = "(s.broken IS NULL AND o.found IS NOT NULL)";
    // A row read again counts if the key was not broken since (rule S3).
    const std::string settled = tables_.settled.has_value()
                                    ? fmt::format(
                                          "(t.read_after IS NOT NULL AND coalesce(s.broken < "
                                          "t.read_after::UHUGEINT * {}, true))",
                                          kLsnUnit)
                                    : "false";
    columns += fmt::format(
        "CASE WHEN NOT {0} THEN n.{1} WHEN {2} THEN v{3}.{1} WHEN {4} THEN "
        "o.{1} ",
        unknown, name, sent, column.attnum, copied);
    if (tables_.settled.has_value()) columns += fmt::format("WHEN {} THEN t.{} ", settled, name);
    columns += "END AS " + name;
    taken += fmt::format(", {} AND NOT {} AND NOT {} AND {} AS taken{}", unknown, sent, copied,
                         settled, column.attnum);
    missing +=
        fmt::format(" OR ({} AND NOT {} AND NOT {} AND NOT {})", unknown, sent, copied, settled);
    joins += fmt::format(
        " LEFT JOIN (SELECT {2} AS at, {3} FROM {1} WHERE {4}) v{0} ON v{0}.at = s.e{0}",
        column.attnum, pending, kPosition, name, counts_);
  }
  // A key may have been read in several rounds.
  if (tables_.settled.has_value()) {
    joins += fmt::format(
        " LEFT JOIN (SELECT * FROM {} r QUALIFY row_number() OVER (PARTITION BY {} ORDER BY "
        "r.read_after DESC, r.high DESC) = 1) t ON {}",
        tables_.settled->Sql(), KeyColumns("r"), KeyUsing("n", "t"));
  }
  ETL_RETURN_IF_ERROR(
      connection_
          .Execute(fmt::format(
              "CREATE OR REPLACE TEMP TABLE _etl_final AS SELECT {}, {} AS missing, s.last, "
              "s.broken{} FROM temp.main._etl_need n JOIN temp.main._etl_sent s ON {} LEFT JOIN "
              "temp.main._etl_old o ON {}{}; "
              "DROP TABLE temp.main._etl_need; DROP TABLE temp.main._etl_sent; "
              "DROP TABLE temp.main._etl_old",
              columns, missing, taken, KeyUsing("n", "s"), KeyUsing("n", "o"), joins))
          .status());
  return ReportMissing(outcome);
}

Status DuckDbFold::GatherSources(const std::set<int16_t>& unsent) {
  std::string sent, old_columns, key_names, shadow_keys;
  for (const int16_t attnum : unsent) {
    const Column& column = schema_.columns[static_cast<size_t>(schema_.ColumnByAttnum(attnum))];
    sent += fmt::format(
        ", max({0}) FILTER (op <> 'd' AND (unsent IS NULL OR NOT list_contains(unsent, {1}))) AS "
        "e{1}",
        kPosition, attnum);
    old_columns += fmt::format(", s.{} AS {}", QuoteIdentifier(column.name), PendingName(column));
  }
  for (const int key : schema_.key) {
    const Column& column = schema_.columns[static_cast<size_t>(key)];
    const std::string separator = key_names.empty() ? "" : ", ";
    shadow_keys += separator + "s." + QuoteIdentifier(column.name);
    key_names +=
        fmt::format("{}s.{} AS {}", separator, QuoteIdentifier(column.name), PendingName(column));
  }
  // The keys whose last image lacks values; for each the last break, and for each column the last
  // change that sent it; and any one of the copied versions of its row, for chunks may have copied
  // several (rule F3).
  return connection_
      .Execute(fmt::format("CREATE OR REPLACE TEMP TABLE _etl_need AS SELECT p.* FROM {} p JOIN "
                           "temp.main._etl_last l ON p.lsn = l.lsn AND p.ordinal = l.ordinal "
                           "WHERE l.partial AND p.op <> 't'; ",
                           tables_.pending.Sql()) +
               fmt::format("CREATE OR REPLACE TEMP TABLE _etl_sent AS SELECT {0}, max({1}) AS "
                           "last, max({1}) FILTER (op IN ('i', 'd', 'm')) AS broken{2} FROM {3} p "
                           "SEMI JOIN temp.main._etl_need n ON {4} WHERE {5} GROUP BY {0}; ",
                           KeyColumns("p"), kPosition, sent, tables_.pending.Sql(),
                           KeyUsing("p", "n"), counts_) +
               fmt::format("CREATE OR REPLACE TEMP TABLE _etl_old AS SELECT * EXCLUDE (rn), true "
                           "AS found FROM (SELECT {}{}, row_number() OVER (PARTITION BY {}) AS rn "
                           "FROM {} s SEMI JOIN temp.main._etl_need n ON {}) WHERE rn = 1",
                           key_names, old_columns, shadow_keys, tables_.shadow.Sql(),
                           ShadowKeyUsing("s", "n")))
      .status();
}

Status DuckDbFold::ReportMissing(FoldOutcome* outcome) {
  arrow::FieldVector fields;
  for (const int key : schema_.key) {
    const Column& column = schema_.columns[static_cast<size_t>(key)];
    fields.push_back(ArrowFieldOf(column.name, *column.type));
  }
  ETL_ASSIGN_OR_RETURN(
      auto keys, connection_.QueryBatch(
                     "SELECT " + KeyColumns("f") + " FROM temp.main._etl_final f WHERE missing",
                     arrow::schema(std::move(fields))));
  if (keys->num_rows() == 0) return Status::OK();
  outcome->missing = std::move(keys);
  ETL_ASSIGN_OR_RETURN(
      const auto xids,
      connection_.Rows(fmt::format(
          "SELECT DISTINCT p.xid::VARCHAR FROM {} p WHERE {} IN (SELECT last FROM "
          "temp.main._etl_final WHERE missing UNION ALL SELECT broken FROM temp.main._etl_final "
          "WHERE missing AND broken IS NOT NULL)",
          tables_.pending.Sql(), kPosition)));
  for (const TextRow& row : xids) {
    if (row[0].has_value()) outcome->xids.push_back(Parse<uint32_t>(*row[0]));
  }
  return Status::OK();
}

// No name of the source's.
std::string DuckDbFold::PassingName() const { return "_etl_new_" + tables_.pending.name; }

Status DuckDbFold::DeleteTouched() {
  const std::string touched = fmt::format(
      "(SELECT {} FROM {} p JOIN temp.main._etl_last l ON p.lsn = l.lsn AND p.ordinal "
      "= l.ordinal WHERE p.op <> 't')",
      KeyColumns("p"), tables_.pending.Sql());
  const std::string shadow = tables_.shadow.Sql();
  ETL_ASSIGN_OR_RETURN(const int64_t keys,
                       connection_.Number("SELECT count(*) FROM temp.main._etl_last"));
  ETL_ASSIGN_OR_RETURN(const int64_t rows, connection_.Number("SELECT count(*) FROM " + shadow));
  const int64_t held = std::min(keys, rows / kVectorRows + 1) * kBytesPerTouchedVector;
  if (held < memory_bytes_ / 4) {
    return connection_
        .Execute(fmt::format("DELETE FROM {} AS s USING {} AS k WHERE {}", shadow, touched,
                             ShadowKeyUsing("s", "k")))
        .status();
  }
  DuckDbTable rebuilt = tables_.shadow;
  rebuilt.name = PassingName();
  return connection_
      .Execute(fmt::format("CREATE TABLE {0} AS SELECT s.* FROM {1} s ANTI JOIN {2} k ON {3}; DROP "
                           "TABLE {1}; ALTER TABLE {0} RENAME TO {4}",
                           rebuilt.Sql(), shadow, touched, ShadowKeyUsing("s", "k"),
                           QuoteIdentifier(tables_.shadow.name)))
      .status();
}

Status DuckDbFold::RunFullRows(FoldOutcome* outcome) {
  std::string values, groups;
  for (size_t i = 0; i < schema_.columns.size(); ++i) {
    const Column& column = schema_.columns[i];
    const std::string name = PendingName(column);
    const std::string separator = i > 0 ? ", " : "";
    values += fmt::format("{}{} AS n{}", separator, name, i);
    groups += separator + name;
    // What DuckDB groups together though the bits differ.
    if (column.type->kind == TypeKind::kFloat4 || column.type->kind == TypeKind::kFloat8)
      groups += fmt::format(", NOT isnan({0}) AND signbit({0})", name);
    if (column.type->kind == TypeKind::kInterval) groups += fmt::format(", {}::VARCHAR", name);
  }
  ETL_RETURN_IF_ERROR(
      connection_
          .Execute(fmt::format("CREATE OR REPLACE TEMP TABLE _etl_net AS SELECT *, row_number() "
                               "OVER () AS n FROM (SELECT {}, sum(CASE WHEN op = 'd' THEN -1 ELSE "
                               "1 END)::BIGINT AS net FROM {} WHERE {} GROUP BY {}) WHERE net <> 0",
                               values, tables_.pending.Sql(), counts_, groups))
          .status());
  DeleteLimit limit{.passing_name = PassingName()};
  ETL_ASSIGN_OR_RETURN(const int64_t rows,
                       connection_.Number("SELECT count(*) FROM " + tables_.shadow.Sql()));
  if ((rows / kVectorRows + 1) * kBytesPerTouchedVector >= memory_bytes_ / 4)
    limit.rows = memory_bytes_ / 4 / kBytesPerTouchedVector;
  ETL_ASSIGN_OR_RETURN(
      const ApplyOutcome applied,
      ApplyNetRows(connection_, tables_.shadow, schema_, connection_.Temporary("_etl_net"), limit));
  outcome->diverged = applied.diverged;
  outcome->why = applied.why;
  return connection_.Execute("DROP TABLE temp.main._etl_net").status();
}

}  // namespace etl

#include "destination/duckdb/duckdb_alter.h"

#include <set>

#include <arrow/api.h>
#include <fmt/format.h>

namespace etl {
namespace {

std::string NameOf(const Column& column, const DuckDbAlterOptions& options) {
  return options.by_attnum ? "c" + std::to_string(column.attnum) : column.name;
}

std::string FillName(const Column& column) { return "c" + std::to_string(column.attnum); }

/// The columns of `to` that did not exist before and have a value for the rows that did.
std::vector<const Column*> Filled(const TableSchema& from, const TableSchema& to,
                                  const FillValues& fill) {
  std::vector<const Column*> filled;
  for (const Column& column : to.columns) {
    const auto value = fill.find(column.attnum);
    if (from.ColumnByAttnum(column.attnum) < 0 && value != fill.end() && value->second != nullptr &&
        !value->second->IsNull(0))
      filled.push_back(&column);
  }
  return filled;
}

/// Puts the values into a temporary table of one row, so that they need no text form.
Status StoreFill(DuckDbConnection& connection, const std::vector<const Column*>& filled,
                 const FillValues& fill) {
  std::string definitions;
  arrow::FieldVector fields;
  arrow::ArrayVector columns;
  for (const Column* column : filled) {
    definitions +=
        (definitions.empty() ? "" : ", ") + FillName(*column) + " " + DuckDbTypeName(*column->type);
    fields.push_back(ArrowFieldOf(FillName(*column), *column->type));
    columns.push_back(fill.at(column->attnum)->Slice(0, 1));
  }
  ETL_RETURN_IF_ERROR(
      connection.Execute("CREATE OR REPLACE TEMP TABLE _etl_fill(" + definitions + ")").status());
  return connection.Append(
      connection.Temporary("_etl_fill"),
      *arrow::RecordBatch::Make(arrow::schema(std::move(fields)), 1, std::move(columns)));
}

/// Columns of `table` that no version of the source has: the metadata behind the source's columns.
Result<std::vector<std::string>> OwnColumns(DuckDbConnection& connection, const DuckDbTable& table,
                                            const TableSchema& from,
                                            const DuckDbAlterOptions& options) {
  std::set<std::string> known;
  for (const Column& column : from.columns) known.insert(FoldName(NameOf(column, options)));
  ETL_ASSIGN_OR_RETURN(
      auto rows,
      connection.Rows(fmt::format(
          "SELECT column_name FROM duckdb_columns() WHERE database_name = {} AND "
          "schema_name = {} AND table_name = {} ORDER BY column_index",
          QuoteLiteral(table.catalog), QuoteLiteral(table.schema), QuoteLiteral(table.name))));
  std::vector<std::string> own;
  for (const TextRow& row : rows) {
    if (!known.contains(FoldName(*row[0]))) own.push_back(*row[0]);
  }
  return own;
}

Status Rebuild(DuckDbConnection& connection, const DuckDbTable& table, const TableSchema& from,
               const TableSchema& to, const std::vector<const Column*>& filled,
               const FillValues& fill, const DuckDbAlterOptions& options) {
  if (!filled.empty()) ETL_RETURN_IF_ERROR(StoreFill(connection, filled, fill));
  std::set<int16_t> has_value;
  for (const Column* column : filled) has_value.insert(column->attnum);
  std::string list;
  for (const Column& column : to.columns) {
    const int source = from.ColumnByAttnum(column.attnum);
    std::string value = "NULL";
    if (source >= 0) {
      value = "t." + QuoteIdentifier(NameOf(from.columns[static_cast<size_t>(source)], options));
    } else if (has_value.contains(column.attnum)) {
      value = "f." + FillName(column);
    }
    list += fmt::format("{}CAST({} AS {}) AS {}", list.empty() ? "" : ", ", value,
                        DuckDbTypeName(*column.type), QuoteIdentifier(NameOf(column, options)));
  }
  ETL_ASSIGN_OR_RETURN(const auto own, OwnColumns(connection, table, from, options));
  for (const std::string& name : own) list += ", t." + QuoteIdentifier(name);
  DuckDbTable rebuilt = table;
  rebuilt.name = "_etl_new_" + table.name;
  return connection
      .Execute(fmt::format("CREATE TABLE {0} AS SELECT {1} FROM {2} t{3}; DROP TABLE {2}; ALTER "
                           "TABLE {0} RENAME TO {4}",
                           rebuilt.Sql(), list, table.Sql(),
                           filled.empty() ? "" : ", temp.main._etl_fill f",
                           QuoteIdentifier(table.name)))
      .status();
}

}  // namespace

Status AlterTable(DuckDbConnection& connection, const DuckDbTable& table, const TableSchema& from,
                  const TableSchema& to, const FillValues& fill, DuckDbAlterOptions options) {
  const auto filled = Filled(from, to, fill);
  if (options.changed || !filled.empty())
    return Rebuild(connection, table, from, to, filled, fill, options);
  const std::string alter = "ALTER TABLE " + table.Sql() + " ";
  std::string sql, second;
  for (const Column& column : from.columns) {
    const int index = to.ColumnByAttnum(column.attnum);
    const std::string name = QuoteIdentifier(NameOf(column, options));
    const std::string passing = QuoteIdentifier("_etl_passing_" + std::to_string(column.attnum));
    if (index < 0) {
      // Dropped last, for a table may not be without columns; renamed first, for its name may come
      // again.
      sql += alter + "RENAME COLUMN " + name + " TO " + passing + "; ";
      second += alter + "DROP COLUMN " + passing + "; ";
      continue;
    }
    const Column& next = to.columns[static_cast<size_t>(index)];
    const std::string new_name = QuoteIdentifier(NameOf(next, options));
    if (name != new_name) {
      sql += alter + "RENAME COLUMN " + name + " TO " + passing + "; ";
      second += alter + "RENAME COLUMN " + passing + " TO " + new_name + "; ";
    }
    const std::string type = DuckDbTypeName(*next.type);
    if (DuckDbTypeName(*column.type) != type)
      second += alter + "ALTER COLUMN " + new_name + " SET DATA TYPE " + type + "; ";
  }
  for (const Column& column : to.columns) {
    if (from.ColumnByAttnum(column.attnum) >= 0) continue;
    sql += alter + "ADD COLUMN " + QuoteIdentifier(NameOf(column, options)) + " " +
           DuckDbTypeName(*column.type) + "; ";
  }
  // Several renames at once: the names in passing make room before the new ones are taken.
  sql += second;
  return sql.empty() ? Status::OK() : connection.Execute(sql).status();
}

Result<int64_t> RenameUnchanged(DuckDbConnection& connection, const DuckDbTable& table,
                                const TableSchema& from, const TableSchema& to) {
  std::string cases, names;
  for (const Column& column : from.columns) {
    const int index = to.ColumnByAttnum(column.attnum);
    if (index < 0 || to.columns[static_cast<size_t>(index)].name == column.name) continue;
    const std::string name = QuoteLiteral(column.name);
    cases += fmt::format(" WHEN {} THEN {}", name,
                         QuoteLiteral(to.columns[static_cast<size_t>(index)].name));
    names += (names.empty() ? "" : ", ") + name;
  }
  if (names.empty()) return 0;
  return connection.Execute(
      fmt::format("UPDATE {} SET _etl_unchanged = [CASE c{} ELSE c END FOR c IN _etl_unchanged] "
                  "WHERE list_has_any(_etl_unchanged, [{}])",
                  table.Sql(), cases, names));
}

Status MoveTable(DuckDbConnection& connection, const DuckDbTable& from, const DuckDbTable& to,
                 bool changed) {
  if (from == to) return Status::OK();
  if (from.schema == to.schema && !changed) {
    return connection
        .Execute("ALTER TABLE " + from.Sql() + " RENAME TO " + QuoteIdentifier(to.name))
        .status();
  }
  return connection
      .Execute(fmt::format("CREATE SCHEMA IF NOT EXISTS {}; CREATE TABLE {} AS SELECT * FROM {}; "
                           "DROP TABLE {}",
                           QuoteIdentifier(to.catalog) + "." + QuoteIdentifier(to.schema), to.Sql(),
                           from.Sql(), from.Sql()))
      .status();
}

}  // namespace etl

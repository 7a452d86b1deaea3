#include "destination/duckdb/duckdb_settle.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace etl {
namespace {

/// Where the rows of SettleAppend stand among those of their copy: behind all chunks.
constexpr uint64_t kFirstSettled = uint64_t{1} << 55;

/// The numbers of the columns that a row leaves as they were.
std::string UnsentSql(const TableSchema& schema) {
  std::string cases, names;
  for (const Column& column : schema.columns) {
    const std::string name = QuoteLiteral(column.name);
    cases += fmt::format(" WHEN {} THEN {}", name, column.attnum);
    names += (names.empty() ? "" : ", ") + name;
  }
  return fmt::format("[(CASE c{} END)::SMALLINT FOR c IN t._etl_unchanged IF c IN ({})]", cases,
                     names);
}

/// The rows of the copy as a fold knows them: what was copied, and what came since. A truncate
/// voids what was copied.
Status MakeViews(DuckDbConnection& connection, const TableSchema& schema, const AppendCopy& copy,
                 const FoldTables& views) {
  constexpr int kGenerationShift = 56;
  std::string copied, pending;
  for (const Column& column : schema.columns) {
    const std::string name = "t." + QuoteIdentifier(column.name);
    copied += (copied.empty() ? "" : ", ") + name;
    pending += fmt::format("{} AS c{}, ", name, column.attnum);
  }
  const std::string target = copy.target.Sql();
  return connection
      .Execute(fmt::format("CREATE OR REPLACE TEMP VIEW {} AS SELECT {}t._etl_op AS op, t._etl_lsn "
                           "AS lsn, t._etl_seq AS ordinal, t._etl_xid AS xid, {} AS unsent FROM {} "
                           "t WHERE t._etl_lsn >= {}; ",
                           views.pending.name, pending, UnsentSql(schema), target,
                           copy.from.value) +
               fmt::format("CREATE OR REPLACE TEMP VIEW {0} AS SELECT {1} FROM {2} t WHERE "
                           "t._etl_op = 'r' AND t._etl_lsn = {3} AND t._etl_seq >> {4} = {5} AND "
                           "NOT EXISTS (SELECT 1 FROM {2} v WHERE v._etl_op = 't' AND v._etl_lsn "
                           "> {3})",
                           views.shadow.name, copied, target, copy.from.value - 1, kGenerationShift,
                           copy.first_ordinal >> kGenerationShift))
      .status();
}

Status WriteSettled(DuckDbConnection& connection, const TableSchema& schema, const AppendCopy& copy,
                    const std::set<int16_t>& settled) {
  std::string columns, values, unchanged, any;
  for (int i = 0; i < static_cast<int>(schema.columns.size()); ++i) {
    const Column& column = schema.columns[static_cast<size_t>(i)];
    const std::string name = QuoteLiteral(column.name);
    columns += QuoteIdentifier(column.name) + ", ";
    if (std::find(schema.key.begin(), schema.key.end(), i) != schema.key.end()) {
      values += fmt::format("f.c{}, ", column.attnum);
    } else if (settled.contains(column.attnum)) {
      values += fmt::format("CASE WHEN f.taken{0} THEN f.c{0} END, ", column.attnum);
      unchanged += fmt::format("CASE WHEN NOT f.taken{} THEN {} END, ", column.attnum, name);
      any += (any.empty() ? "f.taken" : " OR f.taken") + std::to_string(column.attnum);
    } else {
      values += "NULL, ";
      unchanged += name + ", ";
    }
  }
  return connection
      .Execute(fmt::format(
          "INSERT INTO {}({}_etl_op, _etl_lsn, _etl_seq, _etl_unchanged) SELECT {}'u', {}, {} + "
          "row_number() OVER (), CASE WHEN len(f.unchanged) > 0 THEN f.unchanged END FROM (SELECT "
          "f.*, [c FOR c IN [{}NULL] IF c IS NOT NULL]::VARCHAR[] AS unchanged FROM "
          "temp.main._etl_final f WHERE {}) f",
          copy.target.Sql(), columns, values, copy.position.value - 1,
          copy.first_ordinal + kFirstSettled - 1, unchanged, any))
      .status();
}

}  // namespace

Result<FoldOutcome> SettleAppend(DuckDbConnection& connection, const TableSchema& schema,
                                 const AppendCopy& copy, int64_t memory_bytes) {
  FoldTables views{.shadow = connection.Temporary("_etl_copied"),
                   .pending = connection.Temporary("_etl_changes"),
                   .settled = copy.settled};
  ETL_RETURN_IF_ERROR(MakeViews(connection, schema, copy, views));
  DuckDbFold fold(connection, schema, views, Lsn{}, memory_bytes);
  ETL_ASSIGN_OR_RETURN(FoldOutcome outcome, fold.FindMissing());
  if (outcome.missing == nullptr && copy.settled && !fold.unsent().empty())
    ETL_RETURN_IF_ERROR(WriteSettled(connection, schema, copy, fold.unsent()));
  ETL_RETURN_IF_ERROR(connection
                          .Execute("DROP TABLE IF EXISTS temp.main._etl_last; DROP TABLE IF EXISTS "
                                   "temp.main._etl_final; DROP VIEW temp.main._etl_changes; DROP "
                                   "VIEW temp.main._etl_copied")
                          .status());
  return outcome;
}

}  // namespace etl

#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/status.h"
#include "destination/snowflake/ddl_sql.h"

namespace etl {

/// One statement of a schema change. DDL commits by itself, so a crash may come between any two:
/// which of them are still to run is told by the columns that the table then has.
struct AlterStep {
  enum class Kind : uint8_t { kRepeatable, kRename, kMark } kind = Kind::kRepeatable;
  std::string sql;
  std::string column;    ///< kRename: the name it has before
  bool passing = false;  ///< kRename: to a name in passing (before the mark)
};

/// How a table gets from one version to the next, by attnum.
///
/// Where names are reused (two columns swap, a dropped one's name comes again), every column that
/// is renamed or dropped first takes a name in passing, `_ETL_PASSING_<attnum>`; a column
/// `_ETL_ALTERING` is added when all have one, and dropped by `after` when the new version is
/// recorded. Otherwise columns with swapped names would not show whether they are swapped already.
struct AlterPlan {
  std::vector<AlterStep> steps;
  /// Run when the new version has been recorded; repeatable at any time.
  std::vector<std::string> after;
};

struct AlterOptions {
  /// The landing table: names in _ETL_UNCHANGED change with the columns.
  bool landing = false;
  /// attnum of an added column → the value (ValueSql) that existing rows have; none: NULL.
  std::map<int16_t, std::string> fill;
};

/// Fails (schema) if a type change is not one that Snowflake makes in place. Call at the barrier of
/// the change: no row of the new version has landed, none of the old one is unmerged (rule 6.8).
Result<AlterPlan> PlanAlter(const SnowflakeNames& names, const SnowflakeName& place,
                            const TableSchema& from, const TableSchema& to,
                            const AlterOptions& options);

/// The statements still to run, for a table that now has `columns` (names as stored).
std::vector<std::string> RemainingSteps(const AlterPlan& plan,
                                        const std::set<std::string>& columns);

/// One of AlterPlan::after, for whoever has no plan any more.
std::string DropAlterMarkSql(const SnowflakeName& table);

/// TABLE_SCHEMA and TABLE_NAME of those tables that are there; all are of one database.
std::string SelectTablesSql(const std::vector<SnowflakeName>& tables);
/// COLUMN_NAME of a table, in order.
std::string SelectColumnsSql(const SnowflakeName& table);

/// Takes a table to another name: known oid, new name or schema.
std::string RenameTableSql(const SnowflakeName& from, const SnowflakeName& to);

}  // namespace etl

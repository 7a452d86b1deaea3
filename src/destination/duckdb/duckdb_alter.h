#pragma once

#include "base/status.h"
#include "destination/duckdb/change_columns.h"
#include "destination/duckdb/duckdb_connection.h"

namespace etl {

struct DuckDbAlterOptions {
  /// Columns are called c<attnum> (a pending table): nothing is renamed.
  bool by_attnum = false;
  /// The table had changes in this transaction: an ALTER of it would fail at COMMIT, so it is built
  /// anew.
  bool changed = false;
};

/// Brings the columns of `table` from one version to the next, by attnum, in the transaction at
/// hand.
Status AlterTable(DuckDbConnection& connection, const DuckDbTable& table, const TableSchema& from,
                  const TableSchema& to, const FillValues& fill, DuckDbAlterOptions options);

/// After AlterTable, for an append table: columns are named in `_etl_unchanged` as they are called
/// now. Returns the number of rows changed.
Result<int64_t> RenameUnchanged(DuckDbConnection& connection, const DuckDbTable& table,
                                const TableSchema& from, const TableSchema& to);

/// Renames a table, or copies it: into another schema (DuckDB cannot move one), or because it was
/// `changed` in this transaction. DuckDB writes a DELETE to its log under the table's last name,
/// before the rename: replayed after a crash, the file could not be opened any more. A rename first
/// and changes after it are fine.
Status MoveTable(DuckDbConnection& connection, const DuckDbTable& from, const DuckDbTable& to,
                 bool changed = false);

}  // namespace etl

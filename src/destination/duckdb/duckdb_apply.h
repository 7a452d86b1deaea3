#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"
#include "model/change_batch.h"

namespace etl {

/// What applying a batch to a table that readers see came to.
struct ApplyOutcome {
  /// The table did not hold the rows that the changes are about (rule 5.3): roll back, the table
  /// has diverged.
  bool diverged = false;
  std::string why;
  int64_t deleted = 0;
  int64_t inserted = 0;
  bool rebuilt = false;
};

/// How rows may leave a table. Deleted ones hold memory until the next CHECKPOINT, so that many are
/// not deleted: the table is built anew from the others.
struct DeleteLimit {
  int64_t rows = std::numeric_limits<int64_t>::max();  ///< more than these: built anew
  std::string passing_name;  ///< of the new table until it has the old one's; nobody else's
};

/// Applies changes in the transaction at hand, strictly. `batch.schema` is what the table stores.
Result<ApplyOutcome> ApplyChanges(DuckDbConnection& connection, const DuckDbTable& table,
                                  const ChangeBatch& batch, const DeleteLimit& limit);

/// Multiset arithmetic over whole rows (rule 5.5). `net` is a table with the columns of `schema` as
/// n0, n1 …, a row number `n` and `net`, how many equal rows come (or go, below zero).
Result<ApplyOutcome> ApplyNetRows(DuckDbConnection& connection, const DuckDbTable& table,
                                  const TableSchema& schema, const DuckDbTable& net,
                                  const DeleteLimit& limit);

/// `a IS NOT DISTINCT FROM b`, exact to the bit where DuckDB's comparison is not.
std::string SameValue(const ColumnType& type, const std::string& a, const std::string& b);

}  // namespace etl

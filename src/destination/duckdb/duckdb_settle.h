#pragma once

#include <cstdint>
#include <optional>

#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"
#include "destination/duckdb/duckdb_fold.h"
#include "model/table_schema.h"

namespace etl {

/// A copy of an append table that is about to be live (rule C11).
struct AppendCopy {
  DuckDbTable target;
  Lsn from;
  uint64_t first_ordinal = 0;          ///< of the rows that this copy makes
  std::optional<DuckDbTable> settled;  ///< rows that were read again by key
  Lsn position;                        ///< stored
};

/// Values that were neither sent nor copied, in the transaction at hand: names the keys that are to
/// be read again; where none are left, writes what was read as `u` rows just before the stored
/// position, with every other column as unchanged.
Result<FoldOutcome> SettleAppend(DuckDbConnection& connection, const TableSchema& schema,
                                 const AppendCopy& copy, int64_t memory_bytes);

}  // namespace etl

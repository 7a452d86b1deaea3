#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/table_schema.h"

namespace etl {

/// The only place where identifiers and literals enter DuckDB's SQL. A namespace of its own:
/// PostgreSQL's dialect has functions of the same names.
inline namespace duckdb_dialect {
std::string QuoteIdentifier(std::string_view name);
std::string QuoteLiteral(std::string_view text);
}  // namespace duckdb_dialect

/// What a DELETE holds in memory until the next CHECKPOINT, for each vector of rows that it touches
/// one of.
inline constexpr int64_t kVectorRows = 2048;
inline constexpr int64_t kBytesPerTouchedVector = 16384;

/// A table with its three-part name; the first part is the file's catalog name (rule 5.7).
struct DuckDbTable {
  std::string catalog;
  std::string schema;
  std::string name;
  std::string Sql() const;
  bool operator==(const DuckDbTable&) const = default;
};

/// The type as CREATE TABLE takes it: DECIMAL(12,2), STRUCT("a" INTEGER)[] …
std::string DuckDbTypeName(const ColumnType& type);

/// `"a" INTEGER, "b" VARCHAR`.
std::string ColumnDefinitions(const TableSchema& schema);

/// What DuckDB needs at once to append to such a table: a block of the file for each part of each
/// column, and a little that is always in use.
int64_t AppendBytes(const TableSchema& schema, int64_t block_bytes);

/// Why DuckDB cannot append to such a table within `memory_bytes`. Nothing if it can. `held_bytes`:
/// what may be in use besides.
std::optional<std::string> WhyTooWide(const TableSchema& schema, int64_t block_bytes,
                                      int64_t memory_bytes, int64_t held_bytes = 0);

/// The columns that every row of an append table carries behind the source's own.
struct MetadataColumn {
  const char* name;
  const char* type;
};
const std::vector<MetadataColumn>& MetadataColumns();

/// Equality as DuckDB sees it: ASCII case is ignored in names.
std::string FoldName(std::string_view name);

}  // namespace etl

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "model/table_schema.h"

namespace etl {

/// The only place where identifiers and literals enter Snowflake's SQL. A namespace of its own:
/// other dialects have functions of the same names.
inline namespace snowflake_dialect {
/// Always quoted, so that the name is stored and compared exactly as it is.
std::string QuoteIdentifier(std::string_view name);
/// A backslash is an escape inside Snowflake's literals: it is doubled, as the quote is.
std::string QuoteLiteral(std::string_view text);
}  // namespace snowflake_dialect

/// Where the objects of a destination live, as configured.
struct SnowflakeNaming {
  std::string database;
  std::string schema;  ///< may contain {schema}, the source's schema
  std::string landing_schema;
  IdentifierCase identifiers = IdentifierCase::kUpper;
};

/// An object with its three-part name, each part as Snowflake stores it.
struct SnowflakeName {
  std::string database;
  std::string schema;
  std::string name;
  std::string Sql() const;
  auto operator<=>(const SnowflakeName&) const = default;
};

/// Snowflake's limit for one identifier, in characters.
inline constexpr size_t kIdentifierLimit = 255;

/// The columns that every landing row carries behind the source's own.
inline constexpr const char* kOpColumn = "_ETL_OP";              ///< I U D T, R a copied row
inline constexpr const char* kPositionColumn = "_ETL_POSITION";  ///< %016x/%016x
inline constexpr const char* kCommitTimeColumn = "_ETL_COMMIT_TS";
/// ARRAY of the landing columns whose value was not sent. Not NULL in an `I` marks the insert half
/// of a key change whose D(old) is the row at ordinal−1.
inline constexpr const char* kUnchangedColumn = "_ETL_UNCHANGED";

/// Names of everything the engine makes, from the source's names. Immutable, pure; any thread.
class SnowflakeNames {
 public:
  explicit SnowflakeNames(SnowflakeNaming naming);

  /// A name of the source (or of the configuration) as Snowflake stores it.
  std::string Fold(std::string_view name) const;

  SnowflakeName Target(const TableSchema& table) const;
  SnowflakeName Landing(const TableSchema& table) const;
  /// The default pipe of the landing table, in the landing schema.
  SnowflakeName Pipe(const TableSchema& table) const;
  SnowflakeName Task(const TableSchema& table) const;
  /// Stands beside the target while a copy takes its place; one name for each generation and schema
  /// version, so that one that was abandoned is never taken for it. Retired is the replaced target.
  SnowflakeName Shadow(const std::string& pipeline, const TableSchema& table,
                       uint32_t generation) const;
  SnowflakeName Retired(const std::string& pipeline, const TableSchema& table) const;

  SnowflakeName Progress() const;   ///< _ETL_PROGRESS
  SnowflakeName Watermark() const;  ///< _ETL_WATERMARK

  const SnowflakeNaming& naming() const { return naming_; }
  const std::string& landing_schema() const { return landing_schema_; }
  const std::string& database() const { return database_; }

 private:
  std::string Suffix(const TableSchema& table) const;
  SnowflakeName Beside(std::string_view prefix, const std::string& pipeline,
                       const TableSchema& table) const;

  SnowflakeNaming naming_;
  std::string database_;
  std::string landing_schema_;
};

/// `%016x/%016x` of a position, as landing rows carry it.
std::string PositionText(const Position& position);
std::optional<Position> ParsePositionText(std::string_view text);
/// `%016x` of a boundary: less than every position at or behind it, greater than every one before.
std::string BoundaryText(Lsn boundary);

/// Why these tables cannot be kept side by side: one line each, for people. Empty: they can.
std::vector<std::string> NameProblems(const SnowflakeNames& names,
                                      const std::vector<TableSchemaPtr>& tables);

}  // namespace etl

#pragma once

#include <string>
#include <string_view>

#include "destination/snowflake/ddl_sql.h"

namespace etl {

/// The watermark's part of a merge or fold transaction.
class ClaimSql {
 public:
  explicit ClaimSql(const SnowflakeTable& table);

  /// `high` is SQL. `applied` (SQL): what APPLIED must be; empty: whatever it is. `task`: what TASK
  /// must be, likewise.
  std::string Claim(std::string_view phase, const std::string& applied, const std::string& high,
                    std::string_view task = {}) const;
  /// Fails unless this transaction holds the claim.
  std::string Guard(const std::string& applied, const std::string& high) const;
  std::string Apply(std::string_view phase) const;
  /// The rows of earlier generations.
  std::string DropOlder() const;

  /// APPLIED and CLAIMED of the row, as scalar subqueries.
  std::string Value(std::string_view column) const;

 private:
  const std::string watermark_;
  std::string older_;
  std::string row_;
};

/// A query that fails with `message` unless `condition`, over `from`, is true. A division by zero
/// would not do: not every engine takes it for an error.
std::string AssertSql(const std::string& condition, const std::string& message,
                      const std::string& from);

}  // namespace etl

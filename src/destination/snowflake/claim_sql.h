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

/// Changes nothing, and waits for transactions that have the watermark's lock.
std::string TouchWatermarkSql(const SnowflakeTable& table);

/// Fails once another run of the pipeline has begun: what a run that was ended had sent may still
/// come, at any time. In a transaction it stands behind the first change of the watermark, whose
/// lock the transactions of the next run then wait for.
std::string RunGuardSql(const SnowflakeNames& names, const std::string& pipeline, uint64_t run);

/// A query that fails with `message` unless `condition`, over `from`, is true. A division by zero
/// would not do: not every engine takes it for an error.
std::string AssertSql(const std::string& condition, const std::string& message,
                      const std::string& from);

}  // namespace etl

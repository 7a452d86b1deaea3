#include "destination/snowflake/claim_sql.h"

#include <fmt/format.h>

namespace etl {

ClaimSql::ClaimSql(const SnowflakeTable& table) : watermark_(table.names.Watermark().Sql()) {
  const std::string of_table = fmt::format("\"PIPELINE\" = {} AND \"TABLE_OID\" = {} AND ",
                                           QuoteLiteral(table.pipeline), table.schema->id.oid);
  row_ = fmt::format("{}\"GENERATION\" = {}", of_table, table.generation);
  older_ = fmt::format("{}\"GENERATION\" < {}", of_table, table.generation);
}

std::string ClaimSql::Claim(std::string_view phase, const std::string& applied,
                            const std::string& high, std::string_view task) const {
  std::string text = fmt::format("UPDATE {} SET \"CLAIMED\" = {} WHERE {} AND \"PHASE\" = '{}'",
                                 watermark_, high, row_, phase);
  if (!applied.empty()) text += " AND \"APPLIED\" = " + applied;
  if (!task.empty()) text += fmt::format(" AND \"TASK\" = '{}'", task);
  return text;
}

std::string ClaimSql::Guard(const std::string& applied, const std::string& high) const {
  std::string held = "\"CLAIMED\" >= \"APPLIED\"";
  if (!applied.empty()) held += " AND \"APPLIED\" = " + applied;
  if (!high.empty()) held += " AND \"CLAIMED\" = " + high;
  return AssertSql("COUNT(*) = 1", "the watermark has moved",
                   watermark_ + " WHERE " + row_ + " AND " + held);
}

std::string ClaimSql::Apply(std::string_view phase) const {
  return fmt::format(
      "UPDATE {} SET \"APPLIED\" = \"CLAIMED\", \"CLAIMED\" = NULL, \"PHASE\" = '{}' WHERE {}",
      watermark_, phase, row_);
}

std::string ClaimSql::DropOlder() const { return "DELETE FROM " + watermark_ + " WHERE " + older_; }

std::string ClaimSql::Value(std::string_view column) const {
  return fmt::format("(SELECT \"{}\" FROM {} WHERE {})", column, watermark_, row_);
}

std::string TouchWatermarkSql(const SnowflakeTable& table) {
  return fmt::format(
      "UPDATE {} SET \"CLAIMED\" = NULL WHERE \"PIPELINE\" = {} AND \"TABLE_OID\" = {}",
      table.names.Watermark().Sql(), QuoteLiteral(table.pipeline), table.schema->id.oid);
}

std::string RunGuardSql(const SnowflakeNames& names, const std::string& pipeline, uint64_t run) {
  return AssertSql(fmt::format("COALESCE(MAX(\"SEQUENCE\"), 0) <= {}", run),
                   "another run has begun",
                   fmt::format("{} WHERE \"PIPELINE\" = {} AND \"KIND\" = 'history'",
                               names.Progress().Sql(), QuoteLiteral(pipeline)));
}

std::string AssertSql(const std::string& condition, const std::string& message,
                      const std::string& from) {
  return fmt::format("SELECT CAST(IFF({}, '1', {}) AS NUMBER(1,0)) AS OK FROM {}", condition,
                     QuoteLiteral(message), from);
}

}  // namespace etl

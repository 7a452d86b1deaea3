#pragma once

#include <string>
#include <vector>

#include "base/clock.h"
#include "config/config.h"

namespace etl {

/// One line of `check`.
struct CheckFinding {
  enum class Severity : uint8_t { kOk, kWarn, kFail } severity = Severity::kOk;
  std::string id;  ///< S04, D20 … or an error code
  std::string what;
  std::string why;
  std::string remedy;  ///< what to do: a command, a line of configuration, or SQL
  std::string sql;     ///< the remedy as SQL for that end, one statement a line
};

/// What was looked at together: a source for one pipeline, a destination, the host.
struct CheckPart {
  std::string name;         ///< source shop
  std::string pipeline;     ///< empty: not of one pipeline
  std::string description;  ///< what was found there: version and address
  std::vector<CheckFinding> findings;
  /// Everything that the role there needs, as statements for somebody who may grant it.
  std::vector<std::string> grants = {};
};

struct CheckReport {
  std::vector<CheckPart> parts;
  int Count(CheckFinding::Severity severity) const;
  /// Whether somebody who may can cure something of it with SQL.
  bool HasSqlToRun() const;
  bool ok() const { return Count(CheckFinding::Severity::kFail) == 0; }
};

/// Looks at the host, and at both ends of the pipelines named. An end that cannot be reached is a
/// finding, not a failure.
CheckReport RunChecks(const Config& config, const std::vector<std::string>& pipelines,
                      const Clock& clock);

/// The least rights that both ends need, then the SQL of every failed and warned finding that has
/// some, each once, ready for a DBA.
std::string FixSql(const CheckReport& report);
/// `with_fix_sql`: with the statements of FixSql as an array.
std::string CheckToJson(const CheckReport& report, bool with_fix_sql = false);

/// An error as a failed finding.
CheckFinding FindingOf(const Status& status);

}  // namespace etl

#pragma once

#include <map>
#include <string>
#include <vector>

#include "postgres/connection.h"
#include "postgres/table_facts.h"

namespace etl {

/// One finding of a check of the source.
struct PreflightFinding {
  enum class Severity : uint8_t { kOk, kWarn, kFail } severity = Severity::kOk;
  std::string id;  ///< S01 …
  std::string what;
  std::string why;
  std::string remedy;  ///< SQL for a DBA where it ends with a semicolon
};

/// What a pipeline wants of its source.
struct PreflightOptions {
  std::string publication;
  std::string slot;
  std::vector<std::string> tables;             ///< patterns; empty: what the publication holds
  std::map<std::string, ColumnRules> columns;  ///< by schema.table
  bool append = false;                         ///< then a table needs no key
};

/// Looks at everything that would stop or endanger a pipeline, and changes nothing. Later checks
/// are left out when an earlier one failed that they rest on (no connection, no publication).
std::vector<PreflightFinding> RunSourcePreflight(const SourceOptions& source,
                                                 const PreflightOptions& options, Instant deadline);

}  // namespace etl

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
  std::string remedy;
  std::vector<std::string> sql;  ///< the remedy as statements for a DBA, if it is SQL
};

/// `finding` with a remedy that is SQL, `note` after it as a comment; without SQL the note alone.
PreflightFinding WithSql(PreflightFinding finding, std::vector<std::string> sql,
                         const std::string& note = {});

/// What a pipeline wants of its source.
struct PreflightOptions {
  std::string publication;
  std::string slot;
  std::vector<std::string> tables;             ///< patterns; empty: what the publication holds
  std::map<std::string, ColumnRules> columns;  ///< by schema.table
  bool append = false;                         ///< then a table needs no key
  /// The destination does not tell names apart that differ only in case (S26).
  bool names_ignore_case = true;
};

/// Looks at everything that would stop or endanger a pipeline, and changes nothing. Later checks
/// are left out when an earlier one failed that they rest on (no connection, no publication).
std::vector<PreflightFinding> RunSourcePreflight(const SourceOptions& source,
                                                 const PreflightOptions& options, Instant deadline,
                                                 const Clock& clock = SystemClock());

}  // namespace etl

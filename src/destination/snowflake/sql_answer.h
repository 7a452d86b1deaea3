#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace etl {

struct SqlColumn {
  std::string name;
  std::string type;  ///< FIXED, TEXT, BOOLEAN, TIMESTAMP_NTZ …
};

using SqlRow = std::vector<std::optional<std::string>>;

/// What one statement gave. Values are the service's text forms; none is SQL NULL.
struct SqlRows {
  std::vector<SqlColumn> columns;
  std::vector<SqlRow> rows;
  int64_t rows_inserted = 0;
  int64_t rows_updated = 0;
  int64_t rows_deleted = 0;

  /// The value of the first row in the column called `name` (case ignored); none if it is NULL or
  /// not there.
  std::optional<std::string> First(std::string_view name) const;
};

/// An answer of `/api/v2/statements`, whatever its HTTP code: one of ResultSet, QueryStatus,
/// QueryFailureStatus, or a later partition (`data` alone).
struct SqlAnswer {
  std::string code;       ///< 090001 …
  std::string sql_state;  ///< 22018 …
  std::string message;
  std::string handle;                   ///< statementHandle
  std::vector<std::string> statements;  ///< statementHandles, of a request with several
  SqlRows result;
  int partitions = 1;
};

/// None if `body` is no JSON object, or its parts are not what they should be.
std::optional<SqlAnswer> ParseSqlAnswer(std::string_view body);

}  // namespace etl

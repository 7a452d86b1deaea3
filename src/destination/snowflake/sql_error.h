#pragma once

#include <string>

#include "base/status.h"
#include "destination/snowflake/sql_answer.h"

namespace etl {

/// Why a statement failed, in the service's own terms: for callers that can do something about one.
struct SqlFailure {
  int http = 0;
  std::string code;       ///< 002003; of a request with several statements, 100132
  std::string sql_state;  ///< 42S02
  std::string message;
  std::string handle;

  /// An object is missing, or the role may not see it: Snowflake does not tell the two apart.
  bool IsMissingObject() const;
  bool IsExistingObject() const;
};

/// The error of a statement that was answered with a failure. Kinds: auth (token, rights),
/// transient (cancelled, timed out, locked, overloaded), data (a value does not fit), schema (a
/// missing or changed object), internal (anything else: SQL that we made is wrong).
Status SqlError(const std::string& what, const SqlFailure& failure);

/// `status` of statement `sql`, where a refused CREATE SCHEMA IF NOT EXISTS is none: Snowflake asks
/// for the right to make schemas also where the schema is there, and a role that makes only tables
/// needs none. One that is really missing fails with the next statement.
Status ForgiveSchema(const std::string& sql, const Status& status);

}  // namespace etl

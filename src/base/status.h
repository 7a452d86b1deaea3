#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <arrow/result.h>
#include <arrow/status.h>

namespace etl {

/// Arrow's result types under our name. Every error born in our code carries an ErrorDetail.
using arrow::Status;
template <typename T>
using Result = arrow::Result<T>;

/// What may be done about an error; fixed where the error is born and never changed on the way up.
enum class ErrorKind {
  kTransient,  ///< may pass: retried with growing pauses
  kThrottled,  ///< may pass: the other side asked for a pause
  kAuth,       ///< not authorised: stops the pipeline (exit 77)
  kConfig,     ///< invalid configuration: nothing was touched (exit 78)
  kUsage,      ///< wrong use of a command (exit 2)
  kSchema,     ///< one table cannot go on as it is: sets that table aside
  kData,       ///< a value cannot be represented: stops the pipeline there
  kLost,       ///< the position cannot be continued: stops the pipeline, resync required
  kBusy,       ///< held by another process: later may work (exit 75)
  kNegative,   ///< a negative verdict, not a failure (exit 1)
  kInternal,   ///< a bug or a broken invariant (exit 70)
};

/// One word for logs and JSON: "transient", "auth", …
std::string_view ErrorKindName(ErrorKind kind);

/// The four parts of an error that a person sees. `code` is stable (`ETL-S203`).
struct ErrorParts {
  std::string code;
  std::string what;    ///< what happened and where
  std::string why;     ///< the cause, with the server's own words; may be empty
  std::string safe;    ///< what is safe in spite of it; may be empty
  std::string remedy;  ///< what to do next: a command or SQL; may be empty
};

Status MakeError(ErrorKind kind, ErrorParts parts);
/// Short form: code, what and (optionally) remedy.
Status MakeError(ErrorKind kind, std::string_view code, std::string what, std::string remedy = {});

/// The kind of `status`; errors that did not come from MakeError (Arrow's own) are kInternal.
ErrorKind KindOf(const Status& status);
/// The parts of `status`; for a foreign error: code ETL-X001 and its message.
ErrorParts PartsOf(const Status& status);
/// The same error with "context: " before its `what`.
Status WithContext(const Status& status, std::string_view context);
/// One line: `ETL-S203: what (why) - do: remedy`.
std::string ErrorLine(const Status& status);

}  // namespace etl

#define ETL_CONCAT_INNER(a, b) a##b
#define ETL_CONCAT(a, b) ETL_CONCAT_INNER(a, b)
#define ETL_RETURN_IF_ERROR(expr)       \
  do {                                  \
    ::etl::Status etl_status_ = (expr); \
    if (!etl_status_.ok()) [[unlikely]] \
      return etl_status_;               \
  } while (false)
#define ETL_ASSIGN_OR_RETURN_INNER(result, lhs, expr) \
  auto&& result = (expr);                             \
  if (!result.ok()) [[unlikely]]                      \
    return result.status();                           \
  lhs = std::move(result).ValueUnsafe()
#define ETL_ASSIGN_OR_RETURN(lhs, expr) \
  ETL_ASSIGN_OR_RETURN_INNER(ETL_CONCAT(etl_result_, __COUNTER__), lhs, expr)

#include "destination/snowflake/sql_error.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "base/log.h"

namespace etl {
namespace {

constexpr size_t kMessageMax = 1000;

bool OneOf(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

bool Says(const SqlFailure& failure, std::string_view words) {
  return failure.message.find(words) != std::string::npos;
}

// Of a request with several statements only the message tells about the one that failed.
bool IsTransient(const SqlFailure& failure) {
  return failure.http == 408 || OneOf(failure.sql_state, {"57014", "57P03"}) ||
         failure.sql_state.starts_with("08") || failure.sql_state.starts_with("40") ||
         // Cancelled, lock wait ended or timed out, statement timeout, warehouse busy or starting.
         OneOf(failure.code, {"000604", "000625", "000630", "000639", "000606", "000608", "390505",
                              "391918", "391920"}) ||
         Says(failure, "statement timeout") || Says(failure, "locked table") ||
         Says(failure, "lock wait") || Says(failure, "was canceled") ||
         Says(failure, "was aborted");
}

bool IsForbidden(const SqlFailure& failure) {
  return failure.http == 403 || OneOf(failure.code, {"003001", "003003", "003011"}) ||
         failure.sql_state == "42501" || Says(failure, "Insufficient privileges");
}

bool IsAuth(const SqlFailure& failure) {
  return failure.http == 401 || failure.code.starts_with("3901") ||
         failure.code.starts_with("3903");
}

bool IsData(const SqlFailure& failure) {
  return failure.sql_state.starts_with("22") || failure.sql_state.starts_with("23") ||
         OneOf(failure.code, {"100035", "100037", "100038", "100039", "100040", "100046", "100072",
                              "100078", "100090"}) ||
         Says(failure, "is not recognized") || Says(failure, "out of representable range");
}

bool IsSchema(const SqlFailure& failure) {
  return failure.IsMissingObject() || failure.IsExistingObject() ||
         OneOf(failure.code, {"000904", "002020", "002023", "002025", "002027"}) ||
         Says(failure, "invalid identifier");
}

struct Meaning {
  ErrorKind kind;
  std::string_view code;
  std::string_view remedy;
};

Meaning MeaningOf(const SqlFailure& failure) {
  if (IsAuth(failure))
    return {ErrorKind::kAuth, "ETL-D103", "look at account, user and private_key"};
  if (IsTransient(failure)) return {ErrorKind::kTransient, "ETL-D105", {}};
  if (IsForbidden(failure)) return {ErrorKind::kAuth, "ETL-D104", "etl-stream check --fix-sql"};
  if (IsData(failure)) return {ErrorKind::kData, "ETL-D105", {}};
  if (IsSchema(failure)) return {ErrorKind::kSchema, "ETL-D106", "etl-stream check --fix-sql"};
  return {ErrorKind::kInternal, "ETL-D105", {}};
}

}  // namespace

bool SqlFailure::IsMissingObject() const {
  return OneOf(code, {"002003", "002043"}) || sql_state == "42S02" ||
         message.find("does not exist or not authorized") != std::string::npos;
}

bool SqlFailure::IsExistingObject() const {
  return code == "002002" || sql_state == "42710" ||
         message.find("already exists") != std::string::npos;
}

Status ForgiveSchema(const std::string& sql, const Status& status) {
  const bool forgiven = !status.ok() && sql.starts_with("CREATE SCHEMA IF NOT EXISTS ") &&
                        PartsOf(status).code == "ETL-D104";
  return forgiven ? Status::OK() : status;
}

Status SqlError(const std::string& what, const SqlFailure& failure) {
  const Meaning meaning = MeaningOf(failure);
  return MakeError(
      meaning.kind,
      ErrorParts{
          .code = std::string(meaning.code),
          .what = fmt::format("snowflake: {}", what),
          .why = fmt::format("{}{}{}: {}{}{}", failure.code.empty() ? "HTTP " : "",
                             failure.code.empty() ? std::to_string(failure.http) : failure.code,
                             failure.sql_state.empty() ? "" : "/" + failure.sql_state,
                             EscapeControl(failure.message.substr(0, kMessageMax)),
                             failure.handle.empty() ? "" : ", query ", failure.handle),
          .safe = {},
          .remedy = std::string(meaning.remedy)});
}

}  // namespace etl

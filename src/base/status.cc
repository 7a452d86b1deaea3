#include "base/status.h"

#include <memory>

namespace etl {
namespace {

class ErrorDetail : public arrow::StatusDetail {
 public:
  ErrorDetail(ErrorKind kind, ErrorParts parts) : kind_(kind), parts_(std::move(parts)) {}
  const char* type_id() const override { return kTypeId; }
  std::string ToString() const override { return parts_.code; }
  ErrorKind kind() const { return kind_; }
  const ErrorParts& parts() const { return parts_; }

  static constexpr const char* kTypeId = "etl::ErrorDetail";

 private:
  ErrorKind kind_;
  ErrorParts parts_;
};

const ErrorDetail* DetailOf(const Status& status) {
  const auto& detail = status.detail();
  if (detail == nullptr || std::string_view(detail->type_id()) != ErrorDetail::kTypeId)
    return nullptr;
  return static_cast<const ErrorDetail*>(detail.get());
}

}  // namespace

std::string_view ErrorKindName(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::kTransient: return "transient";
    case ErrorKind::kThrottled: return "throttled";
    case ErrorKind::kAuth: return "auth";
    case ErrorKind::kConfig: return "config";
    case ErrorKind::kUsage: return "usage";
    case ErrorKind::kSchema: return "schema";
    case ErrorKind::kData: return "data";
    case ErrorKind::kLost: return "lost";
    case ErrorKind::kBusy: return "busy";
    case ErrorKind::kNegative: return "negative";
    case ErrorKind::kInternal: return "internal";
  }
  return "internal";
}

Status MakeError(ErrorKind kind, ErrorParts parts) {
  std::string message = parts.what;
  return Status(arrow::StatusCode::UnknownError, std::move(message),
                std::make_shared<ErrorDetail>(kind, std::move(parts)));
}

Status MakeError(ErrorKind kind, std::string_view code, std::string what, std::string remedy) {
  return MakeError(kind, ErrorParts{.code = std::string(code),
                                    .what = std::move(what),
                                    .why = {},
                                    .safe = {},
                                    .remedy = std::move(remedy)});
}

ErrorKind KindOf(const Status& status) {
  const ErrorDetail* detail = DetailOf(status);
  return detail == nullptr ? ErrorKind::kInternal : detail->kind();
}

ErrorParts PartsOf(const Status& status) {
  if (const ErrorDetail* detail = DetailOf(status)) return detail->parts();
  return ErrorParts{.code = "ETL-X001",
                    .what = status.ToString(),
                    .why = {},
                    .safe = {},
                    .remedy = "this is a bug: please report it with the log"};
}

Status WithContext(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  ErrorParts parts = PartsOf(status);
  parts.what = std::string(context) + ": " + parts.what;
  return MakeError(KindOf(status), std::move(parts));
}

std::string ErrorLine(const Status& status) {
  const ErrorParts parts = PartsOf(status);
  std::string line = parts.code + ": " + parts.what;
  if (!parts.why.empty()) line += " (" + parts.why + ")";
  if (!parts.remedy.empty()) line += " - do: " + parts.remedy;
  return line;
}

}  // namespace etl

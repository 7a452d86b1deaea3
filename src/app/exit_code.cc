#include "app/exit_code.h"

namespace etl {

int ExitCodeOf(const Status& status) {
  if (status.ok()) return kExitDone;
  const std::string code = PartsOf(status).code;
  switch (KindOf(status)) {
    case ErrorKind::kTransient:
      // Never reached at all is told apart from reached and lost again.
      return code == "ETL-S101" || code == "ETL-D101" ? kExitUnreachable : kExitTemporary;
    case ErrorKind::kThrottled:
    case ErrorKind::kBusy: return kExitTemporary;
    case ErrorKind::kAuth: return kExitAuth;
    case ErrorKind::kConfig: return kExitConfig;
    case ErrorKind::kUsage: return kExitUsage;
    case ErrorKind::kSchema:
    case ErrorKind::kData:
    case ErrorKind::kLost:
    case ErrorKind::kNegative: return kExitNegative;
    case ErrorKind::kInternal: return kExitInternal;
  }
  return kExitInternal;
}

}  // namespace etl

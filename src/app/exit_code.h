#pragma once

#include "base/status.h"

namespace etl {

/// The exit codes of the contract.
enum ExitCode : int {
  kExitDone = 0,
  kExitNegative = 1,
  kExitUsage = 2,
  kExitUnreachable = 69,
  kExitInternal = 70,
  kExitTemporary = 75,
  kExitAuth = 77,
  kExitConfig = 78,
};

/// The exit code of a command that ended with `status`.
int ExitCodeOf(const Status& status);

}  // namespace etl

#pragma once

#include <string>

#include "base/status.h"

namespace etl {

/// An error as a person reads it: code and what, then why, safe, do, more; each part on a line of
/// its own.
std::string FormatError(const Status& status);

}  // namespace etl

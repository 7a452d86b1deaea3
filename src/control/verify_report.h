#pragma once

#include <string>
#include <string_view>

#include "control/commands.h"

namespace etl {

/// The contract's JSON of a report, one line.
std::string VerifyReportToJson(const VerifyReport& report);

/// A verdict as a runner hands it to the command that asked for it: the report, or the error whole.
std::string VerdictToJson(const Result<VerifyReport>& verdict);
Result<VerifyReport> VerdictFromJson(std::string_view json);

}  // namespace etl

// Stands in until the commands are carried out; each answers with a clear error and touches
// nothing.
#include "control/commands.h"

namespace etl {
namespace {

Status Pending(std::string_view command) {
  return MakeError(ErrorKind::kInternal, "ETL-X010",
                   std::string(command) + " is not part of this build");
}

}  // namespace

Status RunTap(ControlContext&, const std::string&, const std::function<bool(std::string_view)>&) {
  return Pending("tap");
}

}  // namespace etl

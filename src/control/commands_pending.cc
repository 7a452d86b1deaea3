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

Status RunService(ControlContext&, const std::function<std::shared_ptr<const Config>()>&) {
  return Pending("run");
}
Status RunSync(ControlContext&) { return Pending("sync"); }
Result<VerifyReport> RunVerify(ControlContext&, const VerifyOptions&) { return Pending("verify"); }
Status RunTap(ControlContext&, const std::string&, const std::function<bool(std::string_view)>&) {
  return Pending("tap");
}
Status RunDrop(ControlContext&, const std::string&) { return Pending("pipeline drop"); }

}  // namespace etl

#include <cstdio>

#include "app/commands.h"
#include "app/work_context.h"

namespace etl {

Result<int> TapCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(std::vector<std::string> pipelines,
                       session.Choose({session.line().pipeline}));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<WorkContext> work,
                       WorkContext::Make(session, std::move(pipelines), /*bar=*/false));
  work->control().on_status = nullptr;
  // A reader that has gone away (`tap | head`) ends the tap, without an error.
  const auto print = [](std::string_view line) {
    Print(line);
    Print("\n");
    return std::fflush(stdout) == 0;
  };
  ETL_RETURN_IF_ERROR(RunTap(work->control(), session.line().pipeline, print));
  return 0;
}

}  // namespace etl

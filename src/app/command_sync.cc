#include "app/commands.h"
#include "app/error_printer.h"
#include "app/work_context.h"

namespace etl {

Result<int> SyncCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(std::vector<std::string> pipelines,
                       session.Choose(session.line().pipelines));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<WorkContext> work,
                       WorkContext::Make(session, std::move(pipelines), /*bar=*/true));
  const std::vector<Status> failures = RunSync(work->control());
  work->FinishProgress();
  if (failures.empty()) return 0;
  for (size_t i = 0; i + 1 < failures.size(); ++i) PrintError(FormatError(failures[i]));
  return failures.back();
}

}  // namespace etl

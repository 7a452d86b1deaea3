#include "app/commands.h"
#include "app/work_context.h"

namespace etl {

Result<int> SyncCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(std::vector<std::string> pipelines,
                       session.Choose(session.line().pipelines));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<WorkContext> work,
                       WorkContext::Make(session, std::move(pipelines), /*bar=*/true));
  const Status outcome = RunSync(work->control());
  work->FinishProgress();
  ETL_RETURN_IF_ERROR(outcome);
  return 0;
}

}  // namespace etl

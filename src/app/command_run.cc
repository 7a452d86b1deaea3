#include "app/commands.h"
#include "app/work_context.h"

namespace etl {

Result<int> RunCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(std::vector<std::string> pipelines, session.Choose({}));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<WorkContext> work,
                       WorkContext::Make(session, std::move(pipelines), /*bar=*/false));
  const Status outcome = RunService(work->control(), [&session] { return session.Reload(); });
  work->FinishProgress();
  ETL_RETURN_IF_ERROR(outcome);
  return 0;
}

}  // namespace etl

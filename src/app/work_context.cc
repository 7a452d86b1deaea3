#include "app/work_context.h"

#include "app/terminal.h"

namespace etl {

WorkContext::WorkContext(Session& session, std::vector<std::string> pipelines, bool bar)
    : signals_(interrupt_),
      progress_(stderr, bar && StderrIsTerminal(), TerminalWidth(), SystemClock()),
      control_{.config = session.shared_config(),
               .pipelines = std::move(pipelines),
               .catalog = session.catalog(),
               .clock = SystemClock(),
               .interrupt = interrupt_,
               .on_status = [this](const PipelineStatus& status) { progress_.Update(status); }} {}

Result<std::unique_ptr<WorkContext>> WorkContext::Make(Session& session,
                                                       std::vector<std::string> pipelines,
                                                       bool bar) {
  ETL_RETURN_IF_ERROR(session.OpenCatalog());
  return std::unique_ptr<WorkContext>(new WorkContext(session, std::move(pipelines), bar));
}

}  // namespace etl

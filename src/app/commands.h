#pragma once

#include "app/session.h"
#include "base/status.h"

namespace etl {

// One function a command, each in a file of its own. The answer is the exit code, or the error to
// print.
Result<int> CheckCommand(Session& session);
Result<int> CompletionCommand(Session& session);
Result<int> HelpCommand(Session& session);
Result<int> InitCommand(Session& session);
Result<int> KeyCommand(Session& session);
Result<int> PipelineCommand(Session& session);
Result<int> QueryCommand(Session& session);
Result<int> RunCommand(Session& session);
Result<int> StatusCommand(Session& session);
Result<int> SyncCommand(Session& session);
Result<int> TapCommand(Session& session);
Result<int> VerifyCommand(Session& session);
Result<int> VersionCommand(Session& session);

}  // namespace etl

#pragma once

#include <memory>
#include <string>
#include <vector>

#include "app/progress.h"
#include "app/session.h"
#include "app/signals.h"
#include "control/commands.h"
#include "runtime/interrupt.h"

namespace etl {

/// What the commands that work on pipelines hold while they do: signals, catalog, progress. Made on
/// the main thread, before any other thread.
class WorkContext {
 public:
  /// `bar`: draw a bar where stderr is a terminal.
  static Result<std::unique_ptr<WorkContext>> Make(Session& session,
                                                   std::vector<std::string> pipelines, bool bar);
  ControlContext& control() { return control_; }
  void FinishProgress() { progress_.Finish(); }

 private:
  WorkContext(Session& session, std::vector<std::string> pipelines, bool bar);

  Interrupt interrupt_;
  SignalWatcher signals_;
  Progress progress_;
  ControlContext control_;
};

}  // namespace etl

#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "config/config.h"
#include "control/commands.h"
#include "control/pipeline_factory.h"
#include "pipeline/supervisor.h"

namespace etl {

/// A comparison of a pipeline that runs in this process. Everything outlives it.
struct VerifyWork {
  std::shared_ptr<const Config> config;
  std::string table;  ///< schema.table; empty: all
  Supervisor* supervisor = nullptr;
  ProcessResources* resources = nullptr;
  const Clock* clock = nullptr;
  const std::atomic<bool>* stop = nullptr;  ///< set: there is to be no verdict
  std::function<void(const PipelineStatus&)> on_status = {};
  /// Called with a line for people while the source waits for somebody's transaction to end.
  std::function<void(const std::string&)> on_wait = {};
};

/// Waits until the pipeline has caught up, holds it for a moment, and compares. Any one thread
/// beside that of the supervisor.
Result<VerifyReport> VerifyRunning(const VerifyWork& work);

Status NoSuchTable(const std::string& pipeline, const std::string& table);

}  // namespace etl

// `verify` as a command: with a pipeline of its own, or through the process that runs it.
#include <poll.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "control/commands.h"
#include "control/pipeline_factory.h"
#include "control/verify.h"
#include "control/verify_report.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

Status Interrupted() {
  return MakeError(ErrorKind::kNegative, "ETL-V002",
                   "verify was interrupted before it came to a verdict");
}

// Changes from some moment on do not say what the rows were before it.
Result<VerifyReport> ReportNotComparable(ControlContext& context, const VerifyOptions& options) {
  const PipelineConfig& definition = context.config->pipelines.at(options.pipeline);
  const Instant deadline = context.clock.Now() + std::chrono::seconds(30);
  ETL_ASSIGN_OR_RETURN(const SourceOptions source, MakeSourceOptions(*context.config, definition));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<PgConnection> connection,
                       PgConnection::Connect(source, PgConnection::Mode::kNormal, deadline));
  ETL_ASSIGN_OR_RETURN(const TablesAnswer found,
                       LoadTables(*connection, definition.publication, deadline));
  VerifyReport report;
  report.pipeline = options.pipeline;
  ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> seen,
                       context.catalog.GetStatus(options.pipeline));
  if (seen) report.position = seen->position;
  for (const TableFacts& facts : found.tables) {
    if (!definition.tables.Selects(facts.schema, facts.name)) continue;
    if (!options.table.empty() && facts.QualifiedName() != options.table) continue;
    report.tables.push_back(
        {.name = facts.QualifiedName(),
         .note = "not compared: the pipeline has no snapshot, only changes from its start on"});
  }
  if (report.tables.empty() && !options.table.empty())
    return NoSuchTable(options.pipeline, options.table);
  return report;
}

Result<VerifyReport> VerifyAlone(ControlContext& context, const VerifyOptions& options) {
  const PipelineConfig& definition = context.config->pipelines.at(options.pipeline);
  ProcessResources resources(*context.config);
  ETL_ASSIGN_OR_RETURN(PipelineSpec spec,
                       MakePipelineSpec(*context.config, options.pipeline, &resources));
  Supervisor supervisor(
      std::move(spec),
      RestartOptions{.max_delay = definition.retry_max_delay, .give_up = definition.retry_give_up},
      resources.budget(), context.clock);
  supervisor.Start();
  Result<VerifyReport> report = VerifyRunning({.config = context.config,
                                               .table = options.table,
                                               .supervisor = &supervisor,
                                               .resources = &resources,
                                               .clock = &context.clock,
                                               .stop = &context.interrupt.stop_flag(),
                                               .on_status = context.on_status});
  supervisor.Stop(context.clock.Now() + context.config->limits.shutdown);
  return report;
}

// The verdict of the process that runs the pipeline; none if it ended before it gave one.
Result<std::optional<VerifyReport>> AskRunner(ControlContext& context,
                                              const VerifyOptions& options) {
  ETL_ASSIGN_OR_RETURN(
      const int64_t id,
      context.catalog.PutRequest(options.pipeline, RequestKind::kVerify, options.table));
  LogInfo("the process that runs the pipeline compares; this may take a while",
          {{"pipeline", options.pipeline}});
  while (true) {
    // The runner first: it answers before it ends.
    ETL_ASSIGN_OR_RETURN(const std::optional<int64_t> runner,
                         context.catalog.RunnerOf(options.pipeline));
    ETL_ASSIGN_OR_RETURN(const RequestState state, context.catalog.StateOf(id));
    if (state.done) {
      ETL_ASSIGN_OR_RETURN(VerifyReport report, VerdictFromJson(state.outcome));
      return std::optional<VerifyReport>(std::move(report));
    }
    const bool interrupted = context.interrupt.stopping();
    if (interrupted || !runner.has_value()) {
      ETL_RETURN_IF_ERROR(context.catalog.Acknowledge(id));
      if (interrupted) return Interrupted();
      return std::optional<VerifyReport>();
    }
    ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> status,
                         context.catalog.GetStatus(options.pipeline));
    if (status && context.on_status) context.on_status(*status);
    pollfd fd{.fd = context.interrupt.changed().fd(), .events = POLLIN, .revents = 0};
    poll(&fd, 1, 100);
    if ((fd.revents & POLLIN) != 0) context.interrupt.changed().Clear();
  }
}

}  // namespace

Result<VerifyReport> RunVerify(ControlContext& context, const VerifyOptions& options) {
  if (!context.config->pipelines.at(options.pipeline).snapshot_enabled)
    return ReportNotComparable(context, options);
  while (!context.interrupt.stopping()) {
    const Result<std::unique_ptr<RunnerLock>> lock =
        context.catalog.TryLockPipeline(options.pipeline);
    if (lock.ok()) return VerifyAlone(context, options);
    if (KindOf(lock.status()) != ErrorKind::kBusy) return lock.status();
    ETL_ASSIGN_OR_RETURN(std::optional<VerifyReport> report, AskRunner(context, options));
    if (report) return std::move(*report);
  }
  return Interrupted();
}

}  // namespace etl

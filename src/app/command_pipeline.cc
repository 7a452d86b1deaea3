#include <algorithm>

#include <poll.h>

#include <fmt/format.h>

#include "app/commands.h"
#include "app/terminal.h"
#include "app/work_context.h"
#include "base/log.h"
#include "config/nearest.h"

namespace etl {
namespace {

// The runner obeys within a second; a busy one may take a little longer to say so.
constexpr auto kWaitForRunner = std::chrono::seconds(5);
// It drains the pipeline, and then asks both ends to forget it.
constexpr auto kWaitForDrop = std::chrono::seconds(60);
constexpr int kLookEveryMillis = 50;

RequestKind KindOfAction(const std::string& action) {
  if (action == "pause") return RequestKind::kPause;
  if (action == "resync") return RequestKind::kResync;
  if (action == "drop") return RequestKind::kDrop;
  return RequestKind::kStart;
}

std::string Plan(const PipelineConfig& pipeline, RequestKind kind, const std::string& table) {
  switch (kind) {
    case RequestKind::kResync:
      return fmt::format(
          "{} of pipeline {} will be copied again from {} into {}; readers keep the old rows until "
          "the new ones are complete.\n",
          table.empty() ? "Every table" : "Table " + table, pipeline.name, pipeline.source,
          pipeline.destination);
    case RequestKind::kDrop:
      return fmt::format(
          "Pipeline {}: slot \"{}\" and (if etl-stream made it) publication \"{}\" will be removed "
          "at {}, and the\n"
          "bookkeeping at {}. The tables at the destination stay. It cannot be continued after "
          "that, only begun anew,\nand then into tables of its own: drop or rename these first.\n",
          pipeline.name, pipeline.slot, pipeline.publication, pipeline.source,
          pipeline.destination);
    default: return {};
  }
  return {};
}

Status Confirm(Session& session, const PipelineConfig& pipeline, RequestKind kind) {
  const std::string plan = Plan(pipeline, kind, session.line().table);
  if (plan.empty()) return Status::OK();
  PrintError(plan);
  if (session.line().yes) return Status::OK();
  if (!StdinIsTerminal()) {
    return MakeError(
        ErrorKind::kUsage, "ETL-U003",
        fmt::format("pipeline {} asks before it acts, and there is no terminal to ask on",
                    session.line().action),
        "add --yes");
  }
  if (Ask("Go on?")) return Status::OK();
  return MakeError(ErrorKind::kNegative, "ETL-U003", "nothing was changed");
}

// What the runner made of the request; none if it has not answered in time.
Result<std::optional<std::string>> WaitForOutcome(Catalog& catalog, const std::string& pipeline,
                                                  int64_t id, Duration patience) {
  const Instant deadline = SystemClock().Now() + patience;
  while (true) {
    // The runner first: it answers before it lets go of the pipeline.
    ETL_ASSIGN_OR_RETURN(const std::optional<int64_t> runner, catalog.RunnerOf(pipeline));
    ETL_ASSIGN_OR_RETURN(const RequestState state, catalog.StateOf(id));
    if (state.done) return std::optional<std::string>(state.outcome);
    if (!runner.has_value() || SystemClock().Now() >= deadline) return std::optional<std::string>();
    poll(nullptr, 0, kLookEveryMillis);
  }
}

void Report(const Session& session, std::string_view state, std::string_view text) {
  const CommandLine& line = session.line();
  if (line.json) {
    Print(fmt::format(R"({{"pipeline":{},"action":"{}","table":{},"state":"{}"}})"
                      "\n",
                      JsonQuote(line.pipeline), line.action,
                      line.table.empty() ? "null" : JsonQuote(line.table), state));
  } else {
    Print(fmt::format("{}\n", text));
  }
}

// A pipeline that was dropped, but is still defined, is begun anew by the next `run`.
std::string DroppedText(const Session& session) {
  const std::string& name = session.line().pipeline;
  std::string text = fmt::format("pipeline {} was dropped; its tables stay", name);
  if (session.config().pipelines.at(name).enabled) {
    text += fmt::format(
        "\nit is still in {}: take it out or set enabled: false there, otherwise the next run "
        "begins it anew,\nand refuses tables that it finds at the destination: drop or rename "
        "those "
        "first",
        session.line().config);
  }
  return text;
}

Result<int> DropNow(Session& session) {
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<WorkContext> work,
                       WorkContext::Make(session, {session.line().pipeline}, /*bar=*/false));
  ETL_RETURN_IF_ERROR(RunDrop(work->control(), session.line().pipeline));
  Report(session, "done", DroppedText(session));
  return 0;
}

Status CheckTable(const CommandLine& line, RequestKind kind) {
  if (line.table.empty()) return Status::OK();
  if (kind == RequestKind::kPause || kind == RequestKind::kDrop) {
    return MakeError(
        ErrorKind::kUsage, "ETL-U001",
        fmt::format("pipeline {} concerns the whole pipeline, not one table", line.action),
        fmt::format("etl-stream pipeline {} {}", line.action, line.pipeline));
  }
  if (line.table.find('.') == std::string::npos) {
    return MakeError(ErrorKind::kUsage, "ETL-U001",
                     fmt::format("\"{}\" is not schema.table", line.table),
                     fmt::format("--table public.{}", line.table));
  }
  return Status::OK();
}

// A table that the runner has told of. Where nothing ran yet, no name can be called wrong.
Status CheckTableIsKnown(Session& session) {
  const CommandLine& line = session.line();
  if (line.table.empty()) return Status::OK();
  ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> seen,
                       session.catalog().GetStatus(line.pipeline));
  if (!seen || seen->tables.empty()) return Status::OK();
  std::vector<std::string> names;
  for (const TableStatus& table : seen->tables) names.push_back(table.name);
  if (std::find(names.begin(), names.end(), line.table) != names.end()) return Status::OK();
  const std::optional<std::string> nearest = NearestName(line.table, names);
  return MakeError(ErrorKind::kUsage, "ETL-U001",
                   fmt::format("pipeline {} has no table \"{}\"", line.pipeline, line.table),
                   nearest ? fmt::format("did you mean {}?", *nearest)
                           : fmt::format("etl-stream status {} lists its tables", line.pipeline));
}

}  // namespace

Result<int> PipelineCommand(Session& session) {
  const CommandLine& line = session.line();
  const RequestKind kind = KindOfAction(line.action);
  ETL_RETURN_IF_ERROR(CheckTable(line, kind));
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_RETURN_IF_ERROR(session.Choose({line.pipeline}).status());
  ETL_RETURN_IF_ERROR(Confirm(session, session.config().pipelines.at(line.pipeline), kind));
  ETL_RETURN_IF_ERROR(session.OpenCatalog());
  ETL_RETURN_IF_ERROR(CheckTableIsKnown(session));
  ETL_ASSIGN_OR_RETURN(const std::optional<int64_t> runner,
                       session.catalog().RunnerOf(line.pipeline));
  if (kind == RequestKind::kDrop && !runner.has_value()) return DropNow(session);
  ETL_ASSIGN_OR_RETURN(const int64_t id,
                       session.catalog().PutRequest(line.pipeline, kind, line.table));
  ETL_RETURN_IF_ERROR(session.catalog().AddEvent(
      line.pipeline, "request", line.table.empty() ? line.action : line.action + " " + line.table));
  if (!runner.has_value()) {
    Report(session, "noted",
           fmt::format("noted; nothing runs pipeline {} now, it will be obeyed at the next start",
                       line.pipeline));
    return 0;
  }
  ETL_ASSIGN_OR_RETURN(const std::optional<std::string> outcome,
                       WaitForOutcome(session.catalog(), line.pipeline, id,
                                      kind == RequestKind::kDrop ? Duration(kWaitForDrop)
                                                                 : Duration(kWaitForRunner)));
  if (!outcome.has_value()) {
    Report(session, "noted",
           fmt::format("noted; the runner of pipeline {} has not answered yet", line.pipeline));
    return 0;
  }
  if (!outcome->empty()) return MakeError(ErrorKind::kNegative, "ETL-R110", *outcome);
  Report(session, "done",
         kind == RequestKind::kDrop ? DroppedText(session)
                                    : fmt::format("done: {} {}", line.action, line.pipeline));
  return 0;
}

}  // namespace etl

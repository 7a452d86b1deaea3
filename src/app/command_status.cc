#include <algorithm>

#include <fmt/format.h>

#include "app/commands.h"
#include "app/table_printer.h"

namespace etl {
namespace {

// What the catalog last saw. Without a runner nothing runs, whatever was seen last.
Result<PipelineStatus> LastSeen(Catalog& catalog, const std::string& name) {
  ETL_ASSIGN_OR_RETURN(std::optional<PipelineStatus> seen, catalog.GetStatus(name));
  PipelineStatus status = seen.value_or(PipelineStatus{});
  status.name = name;
  ETL_ASSIGN_OR_RETURN(const std::optional<int64_t> runner, catalog.RunnerOf(name));
  if (!runner.has_value()) {
    ETL_ASSIGN_OR_RETURN(const bool paused, catalog.Paused(name));
    status.phase = paused ? PipelinePhase::kPaused : PipelinePhase::kStopped;
  }
  return status;
}

std::string OrDash(const std::string& text) { return text.empty() ? "-" : text; }

std::string AsText(const std::vector<PipelineStatus>& pipelines) {
  using Align = TablePrinter::Align;
  std::string out;
  for (const PipelineStatus& status : pipelines) {
    if (!out.empty()) out += "\n";
    out += fmt::format("{}  {}", status.name, PipelinePhaseName(status.phase));
    out += fmt::format(
        "  lag {}  {}",
        status.lag_seconds.has_value() ? fmt::format("{:.1f} s", *status.lag_seconds) : "-",
        status.at != 0 ? HumanBytes(status.lag_bytes) : "-");
    out += fmt::format("  at {} of {}", status.position.valid() ? FormatLsn(status.position) : "-",
                       status.source_position.valid() ? FormatLsn(status.source_position) : "-");
    if (status.retained_bytes >= 0)
      out += fmt::format("  WAL held {}", HumanBytes(status.retained_bytes));
    if (status.at != 0) out += fmt::format("  seen {}", FormatUtc(status.at));
    out += "\n";
    if (status.used.has_value()) {
      out += fmt::format("  sent {}  statements {}  merges {} of {} changes\n",
                         HumanBytes(status.used->bytes_sent), Grouped(status.used->statements),
                         Grouped(status.used->merges), Grouped(status.used->rows_merged));
    }
    if (!status.error.empty()) out += fmt::format("  error  {}\n", Printable(status.error));
    if (status.tables.empty()) continue;
    // Values that became NULL are news wherever there are any; so is what merges took.
    const auto any = [&](int64_t TableStatus::*count) {
      return std::any_of(status.tables.begin(), status.tables.end(),
                         [count](const TableStatus& each) { return each.*count > 0; });
    };
    const bool merged = any(&TableStatus::rows_merged), nulled = any(&TableStatus::nulled);
    std::vector<std::string> heads = {"TABLE", "PHASE", "ROWS", "CHANGES", "ERROR"};
    std::vector<Align> sides = {Align::kLeft, Align::kLeft, Align::kRight, Align::kRight,
                                Align::kLeft};
    if (merged) {
      heads.insert(heads.end() - 1, "MERGED");
      sides.insert(sides.end() - 1, Align::kRight);
    }
    if (nulled) {
      heads.insert(heads.end() - 1, "NULLED");
      sides.insert(sides.end() - 1, Align::kRight);
    }
    TablePrinter table(heads, sides);
    for (const TableStatus& each : status.tables) {
      std::vector<std::string> row = {each.name, std::string(TablePhaseName(each.phase)),
                                      Grouped(each.rows), Grouped(each.changes),
                                      OrDash(each.error)};
      if (merged) row.insert(row.end() - 1, Grouped(each.rows_merged));
      if (nulled) row.insert(row.end() - 1, Grouped(each.nulled));
      table.Add(std::move(row));
    }
    out += table.Render(2, 100);
  }
  return out;
}

}  // namespace

Result<int> StatusCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  std::vector<std::string> names = session.line().pipelines;
  // Without names everything is shown, also what is not enabled.
  if (names.empty()) {
    for (const auto& entry : session.config().pipelines) names.push_back(entry.first);
  }
  std::vector<PipelineStatus> pipelines;
  if (!names.empty()) {
    ETL_ASSIGN_OR_RETURN(names, session.Choose(names));
    ETL_RETURN_IF_ERROR(session.OpenCatalog());
    for (const std::string& name : names) {
      ETL_ASSIGN_OR_RETURN(PipelineStatus status, LastSeen(session.catalog(), name));
      pipelines.push_back(std::move(status));
    }
  }
  if (!session.line().json) {
    Print(pipelines.empty() ? "no pipeline is defined\n" : AsText(pipelines));
    return 0;
  }
  std::string json;
  for (const PipelineStatus& status : pipelines)
    json += (json.empty() ? "" : ",") + StatusToJson(status);
  Print("{\"pipelines\":[" + json + "]}\n");
  return 0;
}

}  // namespace etl

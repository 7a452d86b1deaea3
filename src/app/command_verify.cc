#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/commands.h"
#include "app/exit_code.h"
#include "app/table_printer.h"
#include "app/work_context.h"
#include "control/verify_report.h"

namespace etl {
namespace {

std::string RowsOf(int64_t rows) { return rows < 0 ? "-" : Grouped(rows); }

std::string_view WordFor(const std::optional<bool>& equal) {
  if (!equal.has_value()) return "-";
  return *equal ? "equal" : "DIFFERENT";
}

std::string AsText(const VerifyReport& report) {
  using Align = TablePrinter::Align;
  TablePrinter printer({"TABLE", "SOURCE", "DESTINATION", "", "KEYS THAT DIFFER"},
                       {Align::kLeft, Align::kRight, Align::kRight, Align::kLeft, Align::kLeft});
  size_t equal = 0;
  size_t compared = 0;
  for (const VerifiedTable& table : report.tables) {
    equal += table.equal.value_or(false) ? 1 : 0;
    compared += table.equal.has_value() ? 1 : 0;
    std::string detail = fmt::format("{}", fmt::join(table.keys, ", "));
    if (!table.note.empty()) detail += (detail.empty() ? "" : "  ") + table.note;
    if (table.nulled > 0) {
      detail += fmt::format("{}{} values that cannot be represented are NULL",
                            detail.empty() ? "" : "  ", Grouped(table.nulled));
    }
    printer.Add({table.name, RowsOf(table.source_rows), RowsOf(table.destination_rows),
                 std::string(WordFor(table.equal)), detail});
  }
  std::string out = printer.Render(0, 120);
  if (compared == 0) return out + "no table was compared\n";
  return out + fmt::format("{} of {} tables equal at {}\n", equal, report.tables.size(),
                           FormatLsn(report.position));
}

}  // namespace

Result<int> VerifyCommand(Session& session) {
  if (session.line().repair) {
    return MakeError(ErrorKind::kUsage, "ETL-U001",
                     "this version does not carry out verify --repair yet",
                     "etl-stream pipeline resync PIPELINE --table TABLE");
  }
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(std::vector<std::string> pipelines,
                       session.Choose({session.line().pipeline}));
  ETL_ASSIGN_OR_RETURN(
      const std::unique_ptr<WorkContext> work,
      WorkContext::Make(session, std::move(pipelines), /*bar=*/!session.line().json));
  const Result<VerifyReport> report = RunVerify(
      work->control(), {.pipeline = session.line().pipeline, .table = session.line().table});
  work->FinishProgress();
  ETL_RETURN_IF_ERROR(report.status());
  Print(session.line().json ? VerifyReportToJson(*report) + "\n" : AsText(*report));
  return report->equal() ? kExitDone : kExitNegative;
}

}  // namespace etl

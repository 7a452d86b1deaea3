#include <fmt/format.h>
#include <fmt/ranges.h>

#include "app/commands.h"
#include "app/exit_code.h"
#include "app/table_printer.h"
#include "app/work_context.h"
#include "base/log.h"

namespace etl {
namespace {

std::string AsJson(const VerifyReport& report) {
  std::string tables;
  for (const VerifiedTable& table : report.tables) {
    std::string keys;
    for (const std::string& key : table.keys) keys += (keys.empty() ? "" : ",") + JsonQuote(key);
    tables += fmt::format(
        R"({}{{"name":{},"equal":{},"source_rows":{},"destination_rows":{},"keys":[{}],"note":{}}})",
        tables.empty() ? "" : ",", JsonQuote(table.name), table.equal, table.source_rows,
        table.destination_rows, keys, table.note.empty() ? "null" : JsonQuote(table.note));
  }
  return fmt::format(R"({{"pipeline":{},"position":"{}","equal":{},"tables":[{}]}})",
                     JsonQuote(report.pipeline), FormatLsn(report.position), report.equal(),
                     tables);
}

std::string AsText(const VerifyReport& report) {
  using Align = TablePrinter::Align;
  TablePrinter printer({"TABLE", "SOURCE", "DESTINATION", "", "KEYS THAT DIFFER"},
                       {Align::kLeft, Align::kRight, Align::kRight, Align::kLeft, Align::kLeft});
  size_t equal = 0;
  for (const VerifiedTable& table : report.tables) {
    equal += table.equal ? 1 : 0;
    std::string detail = fmt::format("{}", fmt::join(table.keys, ", "));
    if (!table.note.empty()) detail += (detail.empty() ? "" : "  ") + table.note;
    printer.Add({table.name, Grouped(table.source_rows), Grouped(table.destination_rows),
                 table.equal ? "equal" : "DIFFERENT", detail});
  }
  return printer.Render(0, 120) + fmt::format("{} of {} tables equal at {}\n", equal,
                                              report.tables.size(), FormatLsn(report.position));
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
  Print(session.line().json ? AsJson(*report) + "\n" : AsText(*report));
  return report->equal() ? kExitDone : kExitNegative;
}

}  // namespace etl

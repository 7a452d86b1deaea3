#include <fmt/format.h>

#include "app/commands.h"
#include "app/exit_code.h"
#include "app/table_printer.h"
#include "ops/check.h"

namespace etl {
namespace {

using Severity = CheckFinding::Severity;

void AddLines(std::string& out, std::string_view label, const std::string& text) {
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    out += fmt::format("             {:<4} {}\n", begin == 0 ? label : "",
                       Printable(text.substr(begin, end - begin)));
    begin = end + 1;
  }
}

std::string AsText(const CheckReport& report, double seconds) {
  std::string out;
  for (const CheckPart& part : report.parts) {
    out += Printable(part.name);
    if (!part.pipeline.empty()) out += fmt::format(" for pipeline {}", part.pipeline);
    if (!part.description.empty()) out += "   " + Printable(part.description);
    out += "\n";
    for (const CheckFinding& finding : part.findings) {
      const char* mark = finding.severity == Severity::kOk     ? "ok  "
                         : finding.severity == Severity::kWarn ? "warn"
                                                               : "FAIL";
      out += fmt::format("  {}  {:<3}  {}\n", mark, finding.id, Printable(finding.what));
      AddLines(out, "why", finding.why);
      AddLines(out, "do", finding.remedy);
    }
  }
  const int failed = report.Count(Severity::kFail);
  const int warned = report.Count(Severity::kWarn);
  out += fmt::format("{} failed, {} {}, {} passed in {:.1f} s.", failed, warned,
                     warned == 1 ? "warning" : "warnings", report.Count(Severity::kOk), seconds);
  if (report.HasSqlToRun()) out += "   SQL for your DBA: etl-stream check --fix-sql";
  return out + "\n";
}

}  // namespace

Result<int> CheckCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_ASSIGN_OR_RETURN(const std::vector<std::string> pipelines,
                       session.Choose(session.line().pipelines));
  const Clock& clock = SystemClock();
  const Instant start = clock.Now();
  const CheckReport report = RunChecks(session.config(), pipelines, clock);
  if (session.line().json) {
    Print(CheckToJson(report, session.line().fix_sql) + "\n");
  } else if (session.line().fix_sql) {
    const std::string sql = FixSql(report);
    Print(sql.empty() ? "-- nothing to do\n" : sql);
  } else {
    Print(AsText(report, std::chrono::duration<double>(clock.Now() - start).count()));
  }
  return report.ok() ? kExitDone : kExitNegative;
}

}  // namespace etl

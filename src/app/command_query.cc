#include <poll.h>

#include <fmt/format.h>

#include "app/commands.h"
#include "app/table_printer.h"
#include "base/clock.h"
#include "destination/duckdb/duckdb_query.h"

namespace etl {
namespace {

// A runner closes the file after `release` without changes, so it is worth a few more looks.
constexpr auto kWaitForRelease = std::chrono::seconds(5);
constexpr int kAskEveryMillis = 100;
// A cell is never cut: what is printed is the answer.
constexpr int kWidest = 1 << 20;

bool IsNumber(const std::string& type) {
  return type.ends_with("INT") || type.ends_with("INTEGER") || type.starts_with("DECIMAL") ||
         type == "FLOAT" || type == "DOUBLE";
}

std::string AsTable(const std::vector<DuckDbQueryColumn>& columns,
                    std::vector<std::vector<std::optional<std::string>>>& rows) {
  std::vector<std::string> titles;
  std::vector<TablePrinter::Align> aligns;
  for (const DuckDbQueryColumn& column : columns) {
    titles.push_back(Printable(column.name));
    aligns.push_back(IsNumber(column.type) ? TablePrinter::Align::kRight
                                           : TablePrinter::Align::kLeft);
  }
  TablePrinter printer(std::move(titles), std::move(aligns));
  for (auto& row : rows) {
    std::vector<std::string> cells;
    for (auto& value : row) cells.push_back(value ? std::move(*value) : "NULL");
    printer.Add(std::move(cells));
  }
  return printer.Render(0, kWidest) +
         fmt::format("({} {})\n", rows.size(), rows.size() == 1 ? "row" : "rows");
}

std::string AsJson(const std::vector<DuckDbQueryColumn>& columns,
                   const std::vector<std::vector<std::optional<std::string>>>& rows) {
  std::string out = "[";
  for (const auto& row : rows) out += (out.size() > 1 ? ",\n" : "") + DuckDbRowToJson(columns, row);
  return out + "]\n";
}

Status HeldElsewhere(const Status& status, bool releases) {
  ErrorParts parts = PartsOf(status);
  parts.remedy = releases ? "it is released once there are no changes for a while: try again, or "
                            "stop the process that holds it"
                          : "stop the process that holds it, or set `release` at the destination";
  return MakeError(ErrorKind::kBusy, std::move(parts));
}

}  // namespace

Result<int> QueryCommand(Session& session) {
  ETL_RETURN_IF_ERROR(session.LoadConfig());
  ETL_RETURN_IF_ERROR(session.Choose({session.line().pipeline}).status());
  const Config& config = session.config();
  const DestinationConfig& destination =
      config.destinations.at(config.pipelines.at(session.line().pipeline).destination);
  if (destination.snowflake.has_value()) {
    return MakeError(ErrorKind::kUsage, "ETL-D125", "query reads a copy in DuckDB",
                     "ask Snowflake with one of its own clients");
  }
  const Instant patience = SystemClock().Now() + kWaitForRelease;
  std::vector<DuckDbQueryColumn> columns;
  std::vector<std::vector<std::optional<std::string>>> rows;
  const DuckDbQuery query{.path = destination.path,
                          .sql = session.line().sql,
                          .on_columns =
                              [&](const std::vector<DuckDbQueryColumn>& found) {
                                columns = found;
                                return Status::OK();
                              },
                          .on_row =
                              [&](const std::vector<std::optional<std::string>>& row) {
                                rows.push_back(row);
                                return Status::OK();
                              }};
  while (true) {
    const Status status = RunDuckDbQuery(query);
    if (status.ok()) break;
    const bool busy = KindOf(status) == ErrorKind::kBusy;
    if (!busy) return status;
    const bool releases = destination.release.has_value();
    if (!releases || SystemClock().Now() >= patience) return HeldElsewhere(status, releases);
    poll(nullptr, 0, kAskEveryMillis);
  }
  Print(session.line().json ? AsJson(columns, rows) : AsTable(columns, rows));
  return 0;
}

}  // namespace etl

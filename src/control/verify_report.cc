#include "control/verify_report.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/log.h"

namespace etl {
namespace {

using Json = nlohmann::json;

std::string RowsJson(int64_t rows) { return rows < 0 ? "null" : std::to_string(rows); }

ErrorKind KindNamed(std::string_view name) {
  for (ErrorKind kind :
       {ErrorKind::kTransient, ErrorKind::kThrottled, ErrorKind::kAuth, ErrorKind::kConfig,
        ErrorKind::kUsage, ErrorKind::kSchema, ErrorKind::kData, ErrorKind::kLost, ErrorKind::kBusy,
        ErrorKind::kNegative}) {
    if (name == ErrorKindName(kind)) return kind;
  }
  return ErrorKind::kInternal;
}

// Members of another form count as missing: the document may be of another version.
std::string TextOf(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int64_t RowsOf(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found != object.end() && found->is_number_integer() ? found->get<int64_t>() : -1;
}

VerifiedTable TableOf(const Json& object) {
  VerifiedTable table;
  table.name = TextOf(object, "name");
  table.note = TextOf(object, "note");
  table.source_rows = RowsOf(object, "source_rows");
  table.destination_rows = RowsOf(object, "destination_rows");
  table.nulled = std::max<int64_t>(0, RowsOf(object, "nulled"));
  if (const auto equal = object.find("equal"); equal != object.end() && equal->is_boolean())
    table.equal = equal->get<bool>();
  if (const auto keys = object.find("keys"); keys != object.end() && keys->is_array()) {
    for (const Json& key : *keys) {
      if (key.is_string()) table.keys.push_back(key.get<std::string>());
    }
  }
  return table;
}

}  // namespace

bool VerifyReport::equal() const {
  return std::all_of(tables.begin(), tables.end(),
                     [](const VerifiedTable& table) { return table.equal.value_or(true); });
}

std::string VerifyReportToJson(const VerifyReport& report) {
  std::string tables;
  for (const VerifiedTable& table : report.tables) {
    std::string keys;
    for (const std::string& key : table.keys) keys += (keys.empty() ? "" : ",") + JsonQuote(key);
    tables += fmt::format(
        R"({}{{"name":{},"equal":{},"source_rows":{},"destination_rows":{},"keys":[{}],"note":{},"nulled":{}}})",
        tables.empty() ? "" : ",", JsonQuote(table.name),
        table.equal.has_value() ? (*table.equal ? "true" : "false") : "null",
        RowsJson(table.source_rows), RowsJson(table.destination_rows), keys,
        table.note.empty() ? "null" : JsonQuote(table.note), table.nulled);
  }
  return fmt::format(R"({{"pipeline":{},"position":{},"equal":{},"tables":[{}]}})",
                     JsonQuote(report.pipeline),
                     report.position.valid() ? JsonQuote(FormatLsn(report.position)) : "null",
                     report.equal(), tables);
}

std::string VerdictToJson(const Result<VerifyReport>& verdict) {
  if (verdict.ok()) return VerifyReportToJson(*verdict);
  const ErrorParts parts = PartsOf(verdict.status());
  return fmt::format(
      R"({{"error":{{"kind":"{}","code":{},"what":{},"why":{},"safe":{},"remedy":{}}}}})",
      ErrorKindName(KindOf(verdict.status())), JsonQuote(parts.code), JsonQuote(parts.what),
      JsonQuote(parts.why), JsonQuote(parts.safe), JsonQuote(parts.remedy));
}

Result<VerifyReport> VerdictFromJson(std::string_view json) {
  const Json document = Json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!document.is_object()) {
    return MakeError(ErrorKind::kBusy, "ETL-V003",
                     "the process that runs the pipeline ended before it came to a verdict",
                     "run verify again");
  }
  if (const auto error = document.find("error"); error != document.end() && error->is_object()) {
    return MakeError(KindNamed(TextOf(*error, "kind")),
                     ErrorParts{.code = TextOf(*error, "code"),
                                .what = TextOf(*error, "what"),
                                .why = TextOf(*error, "why"),
                                .safe = TextOf(*error, "safe"),
                                .remedy = TextOf(*error, "remedy")});
  }
  VerifyReport report;
  report.pipeline = TextOf(document, "pipeline");
  report.position = ParseLsn(TextOf(document, "position")).value_or(Lsn{});
  if (const auto tables = document.find("tables"); tables != document.end() && tables->is_array()) {
    for (const Json& table : *tables) {
      if (table.is_object()) report.tables.push_back(TableOf(table));
    }
  }
  return report;
}

}  // namespace etl

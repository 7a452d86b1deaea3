#include "ops/check.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "destination/duckdb/duckdb_probe.h"
#include "postgres/connection.h"
#include "postgres/preflight.h"
#include "postgres/source_setup.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

using Severity = CheckFinding::Severity;

constexpr auto kSourceTime = std::chrono::seconds(30);
constexpr rlim_t kDescriptorsWanted = 1024;

std::string_view SeverityName(Severity severity) {
  switch (severity) {
    case Severity::kOk: return "ok";
    case Severity::kWarn: return "warn";
    case Severity::kFail: return "fail";
  }
  return "fail";
}

Severity SeverityOf(PreflightFinding::Severity severity) {
  switch (severity) {
    case PreflightFinding::Severity::kOk: return Severity::kOk;
    case PreflightFinding::Severity::kWarn: return Severity::kWarn;
    case PreflightFinding::Severity::kFail: return Severity::kFail;
  }
  return Severity::kFail;
}

CheckPart CheckHost(const Config& config) {
  CheckPart part{.name = "host", .pipeline = {}, .description = {}, .findings = {}};
  struct rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < kDescriptorsWanted) {
    part.findings.push_back({Severity::kWarn, "H01",
                             fmt::format("only {} files may be open at once", files.rlim_cur), "",
                             fmt::format("ulimit -n {}", kDescriptorsWanted), ""});
  } else {
    part.findings.push_back({Severity::kOk, "H01", "enough files may be open at once", "", "", ""});
  }
  struct statvfs disk = {};
  const bool usable = access(config.limits.spill_dir.c_str(), W_OK | X_OK) == 0;
  if (!usable || statvfs(config.limits.spill_dir.c_str(), &disk) != 0) {
    part.findings.push_back(
        {Severity::kFail, "H03",
         fmt::format("limits.spill_dir {} cannot be written to", config.limits.spill_dir),
         "large transactions are set aside there",
         "let limits.spill_dir name a folder that may be written to", ""});
    return part;
  }
  const auto free_bytes = static_cast<int64_t>(disk.f_bavail) * static_cast<int64_t>(disk.f_frsize);
  if (free_bytes < config.limits.spill) {
    part.findings.push_back(
        {Severity::kWarn, "H03",
         fmt::format("{} has {} MiB free, limits.spill allows {}", config.limits.spill_dir,
                     free_bytes >> 20, FormatSize(config.limits.spill)),
         "a very large transaction could fill the disk", "lower limits.spill, or free some space",
         ""});
  } else {
    part.findings.push_back(
        {Severity::kOk, "H03", "enough room to set large transactions aside", "", "", ""});
  }
  return part;
}

CheckPart CheckSource(const Config& config, const PipelineConfig& pipeline, const Clock& clock) {
  CheckPart part{.name = "source " + pipeline.source,
                 .pipeline = pipeline.name,
                 .description = {},
                 .findings = {}};
  const SourceConfig& source = config.sources.at(pipeline.source);
  Result<Secret> password = source.password.Resolve();
  if (!password.ok()) {
    part.findings.push_back(FindingOf(password.status()));
    return part;
  }
  SourceOptions options;
  options.conninfo = source.url;
  options.password = std::move(password).ValueUnsafe();
  PreflightOptions wanted;
  wanted.publication = pipeline.publication;
  wanted.slot = pipeline.slot;
  wanted.tables = pipeline.tables.patterns();
  wanted.append = pipeline.mode == PipelineMode::kAppend;
  for (const auto& [table, rules] : pipeline.columns) {
    wanted.columns[table] = ColumnRules{.exclude = rules.exclude, .hash = rules.hash};
  }
  part.description = "PostgreSQL at " + DescribeSource(options);
  for (PreflightFinding& finding : RunSourcePreflight(options, wanted, clock.Now() + kSourceTime)) {
    // The preflight ends its remedies in a semicolon where they are SQL.
    std::string sql = finding.remedy.ends_with(';') ? finding.remedy : "";
    part.findings.push_back({SeverityOf(finding.severity), std::move(finding.id),
                             std::move(finding.what), std::move(finding.why),
                             std::move(finding.remedy), std::move(sql)});
  }
  return part;
}

Severity SeverityOf(ProbeFinding::Severity severity) {
  switch (severity) {
    case ProbeFinding::Severity::kOk: return Severity::kOk;
    case ProbeFinding::Severity::kWarn: return Severity::kWarn;
    case ProbeFinding::Severity::kFail: return Severity::kFail;
  }
  return Severity::kFail;
}

// The tables that are to come: those of the publication, or those that it would be made for.
Result<std::vector<TableSchemaPtr>> TablesToCome(const Config& config,
                                                 const PipelineConfig& pipeline,
                                                 const Clock& clock) {
  const SourceConfig& source = config.sources.at(pipeline.source);
  SourceOptions options;
  options.conninfo = source.url;
  ETL_ASSIGN_OR_RETURN(options.password, source.password.Resolve());
  const Instant deadline = clock.Now() + kSourceTime;
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<SourceSetup> setup,
                       SourceSetup::Connect(options, deadline));
  ETL_ASSIGN_OR_RETURN(const std::optional<PublicationFacts> publication,
                       setup->FindPublication(pipeline.publication, deadline));
  TablesAnswer found;
  if (publication) {
    ETL_ASSIGN_OR_RETURN(found, LoadTables(setup->connection(), pipeline.publication, deadline));
  } else {
    ETL_ASSIGN_OR_RETURN(const std::vector<CandidateTable> candidates,
                         setup->ListCandidateTables(deadline));
    std::vector<TableId> ids;
    for (const CandidateTable& table : candidates) {
      if (pipeline.tables.Selects(table.name.schema, table.name.name)) ids.push_back(table.id);
    }
    if (!ids.empty()) {
      ETL_ASSIGN_OR_RETURN(found, LoadTables(setup->connection(), ids, deadline));
    }
  }
  std::vector<TableSchemaPtr> tables;
  for (const TableFacts& facts : found.tables) {
    if (!pipeline.tables.Selects(facts.schema, facts.name)) continue;
    ColumnRules rules;
    if (const auto given = pipeline.columns.find(facts.QualifiedName());
        given != pipeline.columns.end()) {
      rules = {.exclude = given->second.exclude, .hash = given->second.hash};
    }
    // What does not work out was told with the source.
    Result<TableSchemaPtr> schema = MakeTableSchema(facts, rules, 1);
    if (schema.ok()) tables.push_back(std::move(*schema));
  }
  return tables;
}

CheckPart CheckDestination(const Config& config, const PipelineConfig& pipeline,
                           bool source_reached, const Clock& clock) {
  const DestinationConfig& destination = config.destinations.at(pipeline.destination);
  CheckPart part{.name = "destination " + destination.name,
                 .pipeline = pipeline.name,
                 .description = "DuckDB file " + destination.path,
                 .findings = {}};
  if (destination.snowflake.has_value()) {
    part.description = "Snowflake " + destination.snowflake->account;
    part.findings.push_back({SeverityOf(ProbeFinding::Severity::kFail), "D01",
                             "this version does not carry out pipelines into Snowflake yet", "",
                             "use a destination of type: duckdb", ""});
    return part;
  }
  DuckDbProbe probe;
  probe.file.path = destination.path;
  probe.file.release = destination.release;
  probe.pipeline = pipeline.name;
  if (source_reached) {
    Result<std::vector<TableSchemaPtr>> tables = TablesToCome(config, pipeline, clock);
    if (tables.ok()) probe.tables = std::move(*tables);
  }
  for (ProbeFinding& finding : ProbeDuckDb(probe)) {
    part.findings.push_back({SeverityOf(finding.severity), std::move(finding.id),
                             std::move(finding.what), std::move(finding.why),
                             std::move(finding.remedy), ""});
  }
  return part;
}

}  // namespace

CheckFinding FindingOf(const Status& status) {
  const ErrorParts parts = PartsOf(status);
  return {Severity::kFail, parts.code, parts.what, parts.why, parts.remedy, ""};
}

int CheckReport::Count(CheckFinding::Severity severity) const {
  int count = 0;
  for (const CheckPart& part : parts) {
    for (const CheckFinding& finding : part.findings) count += finding.severity == severity ? 1 : 0;
  }
  return count;
}

CheckReport RunChecks(const Config& config, const std::vector<std::string>& pipelines,
                      const Clock& clock) {
  CheckReport report;
  report.parts.push_back(CheckHost(config));
  for (const std::string& name : pipelines) {
    const PipelineConfig& pipeline = config.pipelines.at(name);
    report.parts.push_back(CheckSource(config, pipeline, clock));
    const std::vector<CheckFinding>& findings = report.parts.back().findings;
    const bool reached = std::none_of(findings.begin(), findings.end(), [](const auto& finding) {
      return finding.severity == Severity::kFail;
    });
    report.parts.push_back(CheckDestination(config, pipeline, reached, clock));
  }
  return report;
}

std::string FixSql(const CheckReport& report) {
  std::string out;
  std::set<std::string> seen;
  for (const CheckPart& part : report.parts) {
    bool titled = false;
    for (const CheckFinding& finding : part.findings) {
      if (finding.severity == Severity::kOk || finding.sql.empty() ||
          !seen.insert(part.name + "\n" + finding.sql).second)
        continue;
      if (!titled) out += fmt::format("-- {}\n", EscapeControl(part.name));
      titled = true;
      out += fmt::format("-- {} {}\n{}\n", finding.id, EscapeControl(finding.what), finding.sql);
    }
  }
  return out;
}

std::string CheckToJson(const CheckReport& report) {
  std::string checks;
  for (const CheckPart& part : report.parts) {
    for (const CheckFinding& finding : part.findings) {
      if (!checks.empty()) checks += ",";
      checks += fmt::format(
          R"({{"part":{},"pipeline":{},"id":{},"severity":"{}","what":{},"why":{},"do":{},"sql":{}}})",
          JsonQuote(part.name), part.pipeline.empty() ? "null" : JsonQuote(part.pipeline),
          JsonQuote(finding.id), SeverityName(finding.severity), JsonQuote(finding.what),
          JsonQuote(finding.why), JsonQuote(finding.remedy), JsonQuote(finding.sql));
    }
  }
  return fmt::format(R"({{"ok":{},"failed":{},"warnings":{},"passed":{},"checks":[{}]}})",
                     report.ok(), report.Count(Severity::kFail), report.Count(Severity::kWarn),
                     report.Count(Severity::kOk), checks);
}

}  // namespace etl

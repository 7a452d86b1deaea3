#include "ops/check.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "config/memory_parts.h"
#include "destination/duckdb/duckdb_probe.h"
#include "destination/snowflake/key.h"
#include "destination/snowflake/snowflake_probe.h"
#include "ops/check_host.h"
#include "postgres/connection.h"
#include "postgres/preflight.h"
#include "postgres/source_grants.h"
#include "postgres/source_setup.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

using Severity = CheckFinding::Severity;

constexpr auto kSourceTime = std::chrono::seconds(30);

// One statement a line.
std::string Lines(const std::vector<std::string>& statements) {
  std::string out;
  for (const std::string& statement : statements)
    out += (out.empty() ? "" : "\n") + statement + ";";
  return out;
}

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
  wanted.names_ignore_case = !config.destinations.at(pipeline.destination).snowflake.has_value();
  for (const auto& [table, rules] : pipeline.columns) {
    wanted.columns[table] = ColumnRules{.exclude = rules.exclude, .hash = rules.hash};
  }
  part.description = "PostgreSQL at " + DescribeSource(options);
  for (PreflightFinding& finding :
       RunSourcePreflight(options, wanted, clock.Now() + kSourceTime, clock)) {
    std::string sql = Lines(finding.sql);
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

/// What was found at the source for the other end, and for what the role is to be granted.
struct SourceLook {
  std::vector<TableSchemaPtr> tables;  ///< that are to come
  SourceGrants grants;
};

SourceGrants GrantsOf(const SourceOptions& options, const PipelineConfig& pipeline) {
  const SourceLogin login = LoginOf(options);
  SourceGrants grants;
  grants.role = login.user;
  grants.database = login.database;
  grants.publication = pipeline.publication;
  return grants;
}

Result<TablesAnswer> FindTables(SourceSetup& setup, const PipelineConfig& pipeline, bool published,
                                Instant deadline) {
  if (published) return LoadTables(setup.connection(), pipeline.publication, deadline);
  ETL_ASSIGN_OR_RETURN(const std::vector<CandidateTable> candidates,
                       setup.ListCandidateTables(deadline));
  std::vector<TableId> ids;
  for (const CandidateTable& table : candidates) {
    if (pipeline.tables.Selects(table.name.schema, table.name.name)) ids.push_back(table.id);
  }
  if (ids.empty()) return TablesAnswer();
  return LoadTables(setup.connection(), ids, deadline);
}

// The tables of the publication, or those that it would be made for.
Status LookAtSource(const Config& config, const PipelineConfig& pipeline, const Clock& clock,
                    SourceLook* look) {
  const SourceConfig& source = config.sources.at(pipeline.source);
  SourceOptions options;
  options.conninfo = source.url;
  look->grants = GrantsOf(options, pipeline);
  ETL_ASSIGN_OR_RETURN(options.password, source.password.Resolve());
  const Instant deadline = clock.Now() + kSourceTime;
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<SourceSetup> setup,
                       SourceSetup::Connect(options, deadline));
  look->grants.database = setup->system().database;
  ETL_ASSIGN_OR_RETURN(const std::optional<PublicationFacts> publication,
                       setup->FindPublication(pipeline.publication, deadline));
  look->grants.publication_exists = publication.has_value();
  ETL_ASSIGN_OR_RETURN(const TablesAnswer found,
                       FindTables(*setup, pipeline, publication.has_value(), deadline));
  for (const TableFacts& facts : found.tables) {
    if (!pipeline.tables.Selects(facts.schema, facts.name)) continue;
    look->grants.tables.push_back({facts.schema, facts.name});
    for (const LeafFacts& leaf : facts.leaves) {
      if (leaf.id != facts.id) look->grants.leaves.push_back({leaf.schema, leaf.name});
    }
    ColumnRules rules;
    if (const auto given = pipeline.columns.find(facts.QualifiedName());
        given != pipeline.columns.end()) {
      rules = {.exclude = given->second.exclude, .hash = given->second.hash};
    }
    // What does not work out was told with the source.
    Result<TableSchemaPtr> schema = MakeTableSchema(facts, rules, 1);
    if (schema.ok()) look->tables.push_back(std::move(*schema));
  }
  return Status::OK();
}

void AddFindings(std::vector<ProbeFinding> findings, CheckPart* part) {
  for (ProbeFinding& finding : findings) {
    std::string sql = Lines(finding.sql);
    part->findings.push_back({SeverityOf(finding.severity), std::move(finding.id),
                              std::move(finding.what), std::move(finding.why),
                              std::move(finding.remedy), std::move(sql)});
  }
}

CheckPart CheckSnowflake(const SnowflakeConfig& config, CheckPart part,
                         const PipelineConfig& pipeline, const SourceLook& look,
                         const Clock& clock) {
  part.description = fmt::format("Snowflake {}, role {}", config.account, config.role);
  SnowflakeProbe probe;
  probe.config = config;
  probe.key = KeyFromConfig(config.private_key, config.private_key_passphrase);
  probe.pipeline = pipeline.name;
  probe.mode = pipeline.mode == PipelineMode::kAppend ? Mode::kAppend : Mode::kMirror;
  probe.tables = look.tables;
  SnowflakeProbeReport report = ProbeSnowflake(probe, clock);
  AddFindings(std::move(report.findings), &part);
  part.grants = std::move(report.grants);
  return part;
}

CheckPart CheckDestination(const Config& config, const PipelineConfig& pipeline,
                           const SourceLook& look, const Clock& clock) {
  const DestinationConfig& destination = config.destinations.at(pipeline.destination);
  CheckPart part{.name = "destination " + destination.name,
                 .pipeline = pipeline.name,
                 .description = "DuckDB file " + destination.path,
                 .findings = {}};
  if (destination.snowflake.has_value())
    return CheckSnowflake(*destination.snowflake, std::move(part), pipeline, look, clock);
  DuckDbProbe probe;
  probe.file.path = destination.path;
  probe.file.release = destination.release;
  probe.file.memory_bytes = DuckDbMemory(config);
  probe.pipeline = pipeline.name;
  probe.tables = look.tables;
  AddFindings(ProbeDuckDb(probe), &part);
  return part;
}

// The statements of a script that has one a line, without its comments. A name may hold a line's
// end.
std::vector<std::string> Statements(std::string_view script) {
  std::vector<std::string> statements;
  while (!script.empty()) {
    if (script.starts_with("--")) {
      script.remove_prefix(std::min(script.find('\n'), script.size() - 1) + 1);
      continue;
    }
    const size_t end = std::min(script.find(";\n"), script.size() - 1) + 1;
    statements.emplace_back(script.substr(0, end));
    script.remove_prefix(std::min(end + 1, script.size()));
  }
  return statements;
}

bool Passed(const CheckPart& part, std::string_view id) {
  return std::any_of(part.findings.begin(), part.findings.end(), [&](const auto& finding) {
    return finding.id == id && finding.severity == Severity::kOk;
  });
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

bool CheckReport::HasSqlToRun() const {
  for (const CheckPart& part : parts) {
    for (const CheckFinding& finding : part.findings) {
      if (finding.severity != CheckFinding::Severity::kOk && !finding.sql.empty()) return true;
    }
  }
  return false;
}

CheckReport RunChecks(const Config& config, const std::vector<std::string>& pipelines,
                      const Clock& clock) {
  CheckReport report;
  report.parts.push_back(CheckHost(config));
  for (const std::string& name : pipelines) {
    const PipelineConfig& pipeline = config.pipelines.at(name);
    CheckPart source = CheckSource(config, pipeline, clock);
    SourceLook look;
    SourceOptions options;
    options.conninfo = config.sources.at(pipeline.source).url;
    look.grants = GrantsOf(options, pipeline);
    // Where it was not reached, all that is known is what the configuration says.
    if (Passed(source, "S06") && !LookAtSource(config, pipeline, clock, &look).ok())
      look.tables.clear();
    source.grants = SourceGrantsSql(look.grants);
    report.parts.push_back(std::move(source));
    report.parts.push_back(CheckDestination(config, pipeline, look, clock));
  }
  return report;
}

std::string FixSql(const CheckReport& report) {
  std::string out;
  std::set<std::string> seen;
  for (const CheckPart& part : report.parts) {
    bool titled = false;
    const auto add = [&](const std::string& comment, const std::string& sql) {
      if (!seen.insert(part.name + "\n" + sql).second) return;
      if (!titled) out += fmt::format("-- {}\n", EscapeControl(part.name));
      titled = true;
      if (!comment.empty()) out += fmt::format("-- {}\n", EscapeControl(comment));
      out += sql + "\n";
    };
    for (const std::string& grant : part.grants) add("", grant + ";");
    for (const CheckFinding& finding : part.findings) {
      if (finding.severity == Severity::kOk || finding.sql.empty()) continue;
      // What the grants above hold already is not said again.
      std::string fresh;
      for (const std::string& statement : Statements(finding.sql)) {
        if (!seen.contains(part.name + "\n" + statement))
          fresh += (fresh.empty() ? "" : "\n") + statement;
      }
      if (!fresh.empty()) add(finding.id + " " + finding.what, fresh);
    }
  }
  return out;
}

std::string CheckToJson(const CheckReport& report, bool with_fix_sql) {
  std::string checks, fix_sql;
  if (with_fix_sql) {
    for (const std::string& statement : Statements(FixSql(report)))
      fix_sql += (fix_sql.empty() ? "" : ",") + JsonQuote(statement);
    fix_sql = fmt::format(R"(,"fix_sql":[{}])", fix_sql);
  }
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
  return fmt::format(R"({{"ok":{},"failed":{},"warnings":{},"passed":{},"checks":[{}]{}}})",
                     report.ok(), report.Count(Severity::kFail), report.Count(Severity::kWarn),
                     report.Count(Severity::kOk), checks, fix_sql);
}

}  // namespace etl

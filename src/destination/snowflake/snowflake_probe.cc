#include "destination/snowflake/snowflake_probe.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "destination/snowflake/account.h"
#include "destination/snowflake/grants_sql.h"
#include "destination/snowflake/link.h"
#include "destination/snowflake/progress_log.h"
#include "destination/snowflake/user_keys.h"
#include "net/jwt.h"

namespace etl {
namespace {

using Severity = ProbeFinding::Severity;

// Tokens carry the time. A difference is noticed and allowed for, but only after a refusal.
constexpr auto kSkewTold = std::chrono::seconds(30);
// Every user has it.
constexpr const char* kPublicRole = "PUBLIC";

SnowflakeNaming NamingOf(const SnowflakeConfig& config) {
  return {.database = config.database,
          .schema = config.schema,
          .landing_schema = config.landing_schema,
          .identifiers = config.identifiers};
}

bool IsCode(const Status& status, std::string_view code) {
  return !status.ok() && PartsOf(status).code == code;
}

// The role lacks a right; or what it asked for is missing, which Snowflake does not tell apart.
bool LacksRight(const SqlOutcome& outcome) {
  return IsCode(outcome.status, "ETL-D104") ||
         (outcome.failure.has_value() && outcome.failure->IsMissingObject());
}

bool LacksWarehouse(const SqlOutcome& outcome) {
  return outcome.failure.has_value() && outcome.failure->code == "000606";
}

std::string Statements(const std::vector<std::string>& sql) {
  std::string text;
  for (const std::string& statement : sql) text += (text.empty() ? "" : " ") + statement + ";";
  return text;
}

std::string HostLabel(std::string_view host) { return UpperAscii(host.substr(0, host.find('.'))); }

class Probe {
 public:
  Probe(const SnowflakeProbe& probe, const Clock& clock)
      : probe_(probe),
        config_(probe.config),
        clock_(clock),
        names_(NamingOf(probe.config)),
        grants_(config_, names_),
        scratch_("_ETL_CHECK_" + UpperAscii(probe.pipeline)) {}

  SnowflakeProbeReport Run() {
    Look();
    CleanUp();
    SnowflakeProbeReport report;
    report.findings = std::move(findings_);
    report.grants = grants_.All(mirror(), probe_.tables, slot_, public_key_);
    return report;
  }

 private:
  /// Something of this probe's that is to be dropped again.
  struct Made {
    std::string what;
    std::string drop;
  };

  bool mirror() const { return probe_.mode == Mode::kMirror; }

  void Ok(std::string id, std::string what) {
    findings_.push_back({Severity::kOk, std::move(id), std::move(what), {}, {}, {}});
  }
  void Add(Severity severity, std::string id, std::string what, std::string why,
           std::string remedy = {}) {
    findings_.push_back(
        {severity, std::move(id), std::move(what), std::move(why), std::move(remedy), {}});
  }
  void Cure(std::string id, std::string what, std::string why, std::vector<std::string> sql) {
    std::string remedy = Statements(sql);
    findings_.push_back({Severity::kFail, std::move(id), std::move(what), std::move(why),
                         std::move(remedy), std::move(sql)});
  }
  void Fail(std::string id, const Status& status) {
    const ErrorParts parts = PartsOf(status);
    // This is the check that the remedy names.
    Add(Severity::kFail, std::move(id), parts.what, parts.why,
        parts.remedy == "etl-stream check --fix-sql" ? "" : parts.remedy);
  }

  void Look();
  bool CheckAccount();
  bool CheckKey();
  bool Connect(const std::string& role);
  bool CheckIdentity();
  void CheckFingerprint(const SqlRows& rows);
  void CheckClock(UnixMicros before, UnixMicros after, const SqlRows& rows);
  bool CheckRole();
  bool CheckDatabase();
  bool CheckSchemas();
  void CheckNameRule();
  void CheckRights(const std::string& schema, bool landing);
  void CheckChannel(const SnowflakeName& table);
  void CheckTasks();
  void CheckTargets();
  void CheckNames();
  void CleanUp();

  SqlOutcome Ask(const std::string& what, const std::string& sql);
  bool Make(Made made, const std::string& sql, SqlOutcome* outcome);
  Status WaitForChannel(ChannelId channel, ChannelEvent::Kind kind);
  Result<std::map<SnowflakeName, std::string>> Owners();

  const SnowflakeProbe& probe_;
  const SnowflakeConfig& config_;
  const Clock& clock_;
  const SnowflakeNames names_;
  const SnowflakeGrants grants_;
  const std::string scratch_;
  std::vector<ProbeFinding> findings_;
  std::unique_ptr<SnowflakeLink> link_;
  std::vector<Made> made_;
  std::set<std::string> schemas_;  ///< that exist
  std::string public_key_;
  std::string fingerprint_;
  KeySlot slot_ = KeySlot::kFirst;
  bool warehouse_ = false;
  std::string landing_;  ///< where scratch tables go: the landing schema, or one of ours
};

void Probe::Look() {
  CheckNames();
  if (!CheckAccount() || !CheckKey() || !CheckIdentity() || !CheckRole() || !CheckDatabase())
    return;
  CheckNameRule();
  if (!CheckSchemas()) return;
  CheckRights(landing_, /*landing=*/true);
  for (const std::string& schema : grants_.Schemas(mirror(), probe_.tables)) {
    if (schema != names_.landing_schema() && schemas_.contains(schema))
      CheckRights(schema, /*landing=*/false);
  }
  if (!warehouse_) return;
  if (mirror() && config_.merge_by == MergeBy::kTask) CheckTasks();
  CheckTargets();
}

SqlOutcome Probe::Ask(const std::string& what, const std::string& sql) {
  std::vector<ChannelEvent> ignored;
  SqlRequest request = link_->Request(what, sql);
  request.timeout = std::chrono::minutes(1);
  return link_->RunAndWait(request, ignored);
}

/// D10. What people write there most often instead.
bool Probe::CheckAccount() {
  const std::string upper = UpperAscii(config_.account);
  if (upper.find(".SNOWFLAKECOMPUTING.") != std::string::npos) {
    Add(Severity::kFail, "D10", fmt::format("account {} is a host name", config_.account),
        "tokens carry the account's identifier",
        "leave out .snowflakecomputing.com and what follows");
    return false;
  }
  const Result<SnowflakeAccount> account = MakeSnowflakeAccount(config_.account, config_.url);
  if (!account.ok()) {
    Fail("D10", account.status());
    return false;
  }
  const std::string& host = account->url.host;
  if (host == "app.snowflake.com") {
    Add(Severity::kFail, "D10", "url is the address of the web interface",
        "the APIs are served by the account's own host",
        fmt::format("leave out url, or write https://{}.snowflakecomputing.com", config_.account));
    return false;
  }
  std::string named = HostLabel(config_.account);
  std::replace(named.begin(), named.end(), '_', '-');
  if (host.ends_with(".snowflakecomputing.com") && HostLabel(host) != named) {
    Add(Severity::kWarn, "D10",
        fmt::format("url leads to {}, and account is {}", host, config_.account),
        "a token is for one account: it is refused elsewhere, unless both are names of the same",
        "let account and url name the same account");
    return true;
  }
  Ok("D10", fmt::format("account {} at {}", account->name, host));
  return true;
}

/// D02, as far as it can be seen from here.
bool Probe::CheckKey() {
  const Result<PrivateKeyPtr> key = probe_.key.read();
  if (!key.ok()) {
    Fail("D02", key.status());
    return false;
  }
  public_key_ = (*key)->public_key();
  fingerprint_ = (*key)->fingerprint();
  return true;
}

bool Probe::Connect(const std::string& role) {
  SnowflakeConfig as = config_;
  as.role = role;
  LinkOptions options;
  options.sql.retry.within = probe_.patience;
  options.streaming.retry.within = probe_.patience;
  options.streaming.open_within = probe_.patience;
  Result<std::unique_ptr<SnowflakeLink>> link =
      SnowflakeLink::Make(as, probe_.key, clock_, std::move(options));
  if (!link.ok()) {
    Fail("D02", link.status());
    return false;
  }
  link_ = std::move(*link);
  return true;
}

/// D01, D02, D07: as a role that every user has, so that only the user is judged.
bool Probe::CheckIdentity() {
  if (!Connect(kPublicRole)) return false;
  const SqlOutcome hello = Ask("sign in", "SELECT CURRENT_USER() AS U");
  if (IsCode(hello.status, "ETL-D103")) {
    // The public key is no secret; the private one is never shown.
    Cure("D02", fmt::format("user {} is not let in with this key", UpperAscii(config_.user)),
         fmt::format(
             "{}; the key's fingerprint is {}: DESC USER must show it as RSA_PUBLIC_KEY_FP or "
             "RSA_PUBLIC_KEY_2_FP, and account and user must be spelled as there",
             PartsOf(hello.status).why, fingerprint_),
         {grants_.Key(KeySlot::kFirst, public_key_)});
    return false;
  }
  if (!hello.status.ok()) {
    Fail("D01", hello.status);
    return false;
  }
  Ok("D01", fmt::format("{} answers", config_.url.starts_with("http://") ? "the account"
                                                                         : "the account, by TLS,"));
  const UnixMicros before = clock_.WallNow();
  const SqlOutcome now = Ask("ask for the time", "SELECT CURRENT_TIMESTAMP() AS NOW");
  const UnixMicros after = clock_.WallNow();
  if (now.status.ok()) CheckClock(before, after, now.results.at(0));
  const SqlOutcome described = Ask("look at the user's keys", DescribeUserSql(config_.user));
  if (!described.status.ok()) {
    Ok("D02", fmt::format("the key {} is accepted", fingerprint_));
    return true;
  }
  CheckFingerprint(described.results.at(0));
  return true;
}

void Probe::CheckFingerprint(const SqlRows& rows) {
  const Result<UserKeys> keys = ReadUserKeys(rows);
  if (keys.ok() && keys->second == fingerprint_) slot_ = KeySlot::kSecond;
  if (keys.ok() && keys->of(slot_) != fingerprint_) {
    Add(Severity::kWarn, "D02",
        fmt::format("the key {} is accepted, and in neither of the user's slots", fingerprint_),
        "`key rotate` cannot change it", "register it as RSA_PUBLIC_KEY or RSA_PUBLIC_KEY_2");
    return;
  }
  Ok("D02",
     fmt::format("the key {} is {}", fingerprint_, keys.ok() ? KeySlotName(slot_) : "accepted"));
}

/// The SQL API writes a moment as seconds with decimals, then perhaps a zone.
void Probe::CheckClock(UnixMicros before, UnixMicros after, const SqlRows& rows) {
  const std::optional<std::string> text = rows.First("NOW");
  if (!text.has_value()) return;
  const auto server = static_cast<UnixMicros>(std::strtod(text->c_str(), nullptr) * 1e6);
  const UnixMicros ahead = server > after ? server - after : server < before ? server - before : 0;
  if (std::chrono::microseconds(std::abs(ahead)) < kSkewTold)
    return Ok("D07", "its clock agrees with ours");
  Add(Severity::kWarn, "D07",
      fmt::format("its clock is {:.0f} s {} ours", std::abs(static_cast<double>(ahead)) / 1e6,
                  ahead > 0 ? "ahead of" : "behind"),
      "tokens that are not of its time are refused; the difference is allowed for only once that "
      "is "
      "noticed",
      "let this machine take its time from NTP");
}

/// D03.
bool Probe::CheckRole() {
  if (!Connect(config_.role)) return false;
  const SqlOutcome role =
      Ask("take the role", "SELECT CURRENT_ROLE() AS R, CURRENT_WAREHOUSE() AS W");
  if (!role.status.ok()) {
    // The user was let in with another role.
    if (!IsCode(role.status, "ETL-D103") && !LacksRight(role)) {
      Fail("D03", role.status);
      return false;
    }
    Cure("D03", fmt::format("user {} may not take role {}", UpperAscii(config_.user), config_.role),
         PartsOf(role.status).why, grants_.Role());
    return false;
  }
  Ok("D03", "role " + config_.role);
  warehouse_ = role.results.at(0).First("W") == config_.warehouse;
  if (warehouse_) {
    Ok("D03", "warehouse " + config_.warehouse);
  } else {
    Cure("D03", fmt::format("role {} may not use warehouse {}", config_.role, config_.warehouse),
         "or there is none of that name; names are written as SHOW WAREHOUSES shows them",
         {grants_.Warehouse()});
  }
  return true;
}

/// D04.
bool Probe::CheckDatabase() {
  const SqlOutcome schemas =
      Ask("list schemas", "SHOW SCHEMAS IN DATABASE " + QuoteIdentifier(names_.database()));
  if (LacksRight(schemas)) {
    Cure("D04",
         fmt::format("database {} is not there for role {}", names_.database(), config_.role),
         PartsOf(schemas.status).why, {grants_.Database()});
    return false;
  }
  if (!schemas.status.ok()) {
    Fail("D04", schemas.status);
    return false;
  }
  const SqlRows& rows = schemas.results.at(0);
  for (size_t i = 0; i < rows.columns.size(); ++i) {
    if (UpperAscii(rows.columns[i].name) != "NAME") continue;
    for (const SqlRow& row : rows.rows) schemas_.insert(row.at(i).value_or(""));
  }
  Ok("D04", "database " + names_.database());
  return true;
}

/// Schemas that are not there are made by the pipeline, if it may: one of ours shows whether.
bool Probe::CheckSchemas() {
  std::vector<std::string> missing;
  for (const std::string& schema : grants_.Schemas(mirror(), probe_.tables)) {
    if (schemas_.contains(schema)) {
      Ok("D04", "schema " + schema);
    } else {
      missing.push_back(schema);
    }
  }
  landing_ = names_.landing_schema();
  const bool follow = mirror() && grants_.schemas_follow_source();
  if (missing.empty() && !follow) return true;
  const std::string name = QuoteIdentifier(names_.database()) + "." + QuoteIdentifier(scratch_);
  SqlOutcome made;
  if (Make({"schema " + scratch_, "DROP SCHEMA IF EXISTS " + name},
           "CREATE SCHEMA IF NOT EXISTS " + name, &made)) {
    for (const std::string& schema : missing)
      Ok("D04", fmt::format("schema {} is not there, and can be made", schema));
    if (!schemas_.contains(landing_)) landing_ = scratch_;
    return true;
  }
  if (!LacksRight(made)) {
    Fail("D04", made.status);
    return false;
  }
  const std::string& why = PartsOf(made.status).why;
  if (follow) {
    Cure("D04", fmt::format("role {} may not make schemas in {}", config_.role, names_.database()),
         why + "; with {schema} they come with the source's", {grants_.CreateSchemas()});
  } else {
    for (const std::string& schema : missing) {
      Cure("D04",
           fmt::format("schema {} is not there for role {}, which may not make it", schema,
                       config_.role),
           why, grants_.Schema(schema));
    }
  }
  return schemas_.contains(landing_);
}

/// Quoted names must be kept as they are written.
void Probe::CheckNameRule() {
  const SqlOutcome shown =
      Ask("look at a parameter", "SHOW PARAMETERS LIKE 'QUOTED_IDENTIFIERS_IGNORE_CASE'");
  if (!shown.status.ok() || UpperAscii(shown.results.at(0).First("value").value_or("")) != "TRUE")
    return;
  Cure("D04", "QUOTED_IDENTIFIERS_IGNORE_CASE is TRUE",
       "quoted names are folded to upper case: names of the source that differ in case become one",
       {fmt::format("ALTER USER {} SET QUOTED_IDENTIFIERS_IGNORE_CASE = FALSE",
                    QuoteIdentifier(UpperAscii(config_.user)))});
}

/// What is made is dropped, whatever becomes of the rest: also if nobody knows whether it was made.
bool Probe::Make(Made made, const std::string& sql, SqlOutcome* outcome) {
  *outcome = Ask("make " + made.what, sql);
  if (outcome->status.ok() || outcome->outcome_unknown) made_.push_back(std::move(made));
  return outcome->status.ok();
}

/// D05: makes, fills, changes, reads.
void Probe::CheckRights(const std::string& schema, bool landing) {
  const SnowflakeName table{names_.database(), schema, scratch_};
  SqlOutcome outcome;
  if (!Make({"table " + table.Sql(), "DROP TABLE IF EXISTS " + table.Sql()},
            "CREATE OR REPLACE TABLE " + table.Sql() + " (\"N\" NUMBER(10,0))", &outcome)) {
    if (!LacksRight(outcome)) return Fail("D05", outcome.status);
    return Cure("D05",
                fmt::format("role {} may not make tables in schema {}", config_.role, schema),
                PartsOf(outcome.status).why, grants_.Schema(schema));
  }
  if (landing) CheckChannel(table);
  if (!warehouse_) return;
  for (const std::string& sql :
       {"INSERT INTO " + table.Sql() + " (\"N\") VALUES (1)",
        "ALTER TABLE " + table.Sql() + " ADD COLUMN IF NOT EXISTS \"M\" VARCHAR",
        "UPDATE " + table.Sql() + " SET \"M\" = 'x' WHERE \"N\" = 1",
        "SELECT COUNT(*) AS C FROM " + table.Sql(), "DELETE FROM " + table.Sql()}) {
    outcome = Ask("try the table " + table.Sql(), sql);
    if (outcome.status.ok()) continue;
    if (!LacksWarehouse(outcome)) return Fail("D05", outcome.status);
    warehouse_ = false;
    return Cure(
        "D03",
        fmt::format("warehouse {} does not work for role {}", config_.warehouse, config_.role),
        PartsOf(outcome.status).why, {grants_.Warehouse()});
  }
  Ok("D05", fmt::format("tables in schema {} can be made, written and read",
                        schema == scratch_ ? names_.landing_schema() : schema));
}

Status Probe::WaitForChannel(ChannelId channel, ChannelEvent::Kind kind) {
  const Instant end = clock_.Now() + probe_.patience * 2;
  while (clock_.Now() < end) {
    std::vector<ChannelEvent> events;
    ETL_ASSIGN_OR_RETURN(const bool worked, link_->Step(clock_.Now(), events));
    for (const ChannelEvent& event : events) {
      if (event.channel != channel) continue;
      if (event.kind == ChannelEvent::Kind::kFailed) return event.status;
      if (event.kind == kind) return Status::OK();
    }
    if (!worked) link_->Wait(end);
  }
  return MakeError(ErrorKind::kTransient, "ETL-D111",
                   "snowflake: a channel was not answered in time");
}

/// D06.
void Probe::CheckChannel(const SnowflakeName& table) {
  const ChannelId channel =
      link_->streaming().OpenChannel({.database = table.database,
                                      .schema = table.schema,
                                      .pipe = table.name + "-STREAMING",
                                      .channel = "etl/" + probe_.pipeline + "/check"});
  Status status = WaitForChannel(channel, ChannelEvent::Kind::kOpened);
  if (status.ok()) {
    link_->streaming().DropChannel(channel);
    status = WaitForChannel(channel, ChannelEvent::Kind::kDropped);
  }
  link_->streaming().CloseChannel(channel);
  if (status.ok()) return Ok("D06", "a streaming channel can be opened");
  Fail("D06", status);
}

/// D09: a task that would run once a day is made and resumed, and suspended at once.
void Probe::CheckTasks() {
  const SnowflakeName task{names_.database(), landing_, scratch_ + "_TASK"};
  SqlOutcome outcome;
  if (!Make({"task " + task.Sql(), "DROP TASK IF EXISTS " + task.Sql()},
            fmt::format(
                "CREATE OR REPLACE TASK {} WAREHOUSE = {} SCHEDULE = '1440 MINUTES' AS SELECT 1",
                task.Sql(), QuoteIdentifier(config_.warehouse)),
            &outcome)) {
    if (!LacksRight(outcome) && !LacksWarehouse(outcome)) return Fail("D09", outcome.status);
    return Cure("D09",
                fmt::format("role {} may not make tasks in schema {}", config_.role,
                            names_.landing_schema()),
                PartsOf(outcome.status).why, grants_.Tasks());
  }
  outcome = Ask("resume a task", "ALTER TASK " + task.Sql() + " RESUME");
  if (LacksRight(outcome)) {
    return Cure("D09", fmt::format("tasks of role {} may not run", config_.role),
                PartsOf(outcome.status).why, grants_.Tasks());
  }
  if (!outcome.status.ok()) return Fail("D09", outcome.status);
  outcome = Ask("suspend a task", "ALTER TASK " + task.Sql() + " SUSPEND");
  if (!outcome.status.ok()) return Fail("D09", outcome.status);
  Ok("D09", "tasks can be made, and may run");
}

/// Which pipeline made what, as the log of each tells.
Result<std::map<SnowflakeName, std::string>> Probe::Owners() {
  std::map<SnowflakeName, std::string> owners{{names_.Progress(), probe_.pipeline},
                                              {names_.Watermark(), probe_.pipeline}};
  const SqlOutcome pipelines =
      Ask("list pipelines", "SELECT DISTINCT \"PIPELINE\" AS P FROM " + names_.Progress().Sql());
  ETL_RETURN_IF_ERROR(pipelines.status);
  for (const SqlRow& row : pipelines.results.at(0).rows) {
    const std::string pipeline = row.at(0).value_or("");
    const SqlOutcome rows =
        Ask("read the log of " + pipeline, ProgressLog::SelectSql(names_, pipeline));
    ETL_RETURN_IF_ERROR(rows.status);
    ProgressLog log;
    ETL_RETURN_IF_ERROR(log.Load(rows.results.at(0)));
    for (const auto& [oid, state] : log.tables()) {
      if (state.landing != nullptr) owners.emplace(names_.Landing(*state.landing), pipeline);
      if (state.target != nullptr) owners.emplace(names_.Target(*state.target), pipeline);
    }
  }
  return owners;
}

/// D08: tables under names that the pipeline is going to use.
void Probe::CheckTargets() {
  const std::string schema = QuoteIdentifier(names_.database()) + ".INFORMATION_SCHEMA.";
  const SqlOutcome tables =
      Ask("list tables", "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_OWNER FROM " + schema + "TABLES");
  if (!tables.status.ok()) return Fail("D08", tables.status);
  std::map<SnowflakeName, std::string> present;  // with its owner
  for (const SqlRow& row : tables.results.at(0).rows) {
    present[{names_.database(), row.at(0).value_or(""), row.at(1).value_or("")}] =
        row.at(2).value_or("");
  }
  std::map<SnowflakeName, std::string> wanted{{names_.Progress(), "the bookkeeping"},
                                              {names_.Watermark(), "the bookkeeping"}};
  for (const TableSchemaPtr& table : probe_.tables) {
    wanted.emplace(names_.Landing(*table), table->QualifiedName());
    if (mirror()) wanted.emplace(names_.Target(*table), table->QualifiedName());
  }
  std::map<SnowflakeName, std::string> owners;
  if (present.contains(names_.Progress())) {
    Result<std::map<SnowflakeName, std::string>> read = Owners();
    if (!read.ok()) return Fail("D08", read.status());
    owners = std::move(*read);
  }
  // A landing table is made before that is recorded; its columns say whose it is.
  const SqlOutcome ours = Ask("list landing tables",
                              "SELECT TABLE_NAME FROM " + schema + "COLUMNS WHERE TABLE_SCHEMA = " +
                                  QuoteLiteral(names_.landing_schema()) +
                                  " AND COLUMN_NAME = " + QuoteLiteral(kPositionColumn));
  if (!ours.status.ok()) return Fail("D08", ours.status);
  for (const SqlRow& row : ours.results.at(0).rows) {
    owners.emplace(
        SnowflakeName{names_.database(), names_.landing_schema(), row.at(0).value_or("")},
        probe_.pipeline);
  }
  const size_t before = findings_.size();
  for (const auto& [name, who] : wanted) {
    const auto there = present.find(name);
    if (there == present.end()) continue;
    const auto owner = owners.find(name);
    if (owner == owners.end()) {
      Add(Severity::kFail, "D08",
          fmt::format("{} is there, and the engine did not make it", name.Sql()),
          fmt::format("{} would go there", who), "rename or drop it, or use another schema");
    } else if (owner->second != probe_.pipeline) {
      Add(Severity::kFail, "D08",
          fmt::format("{} belongs to pipeline {}", name.Sql(), owner->second),
          fmt::format("{} would go there", who),
          "use another schema, or leave the table out of one of the two");
    } else if (there->second != config_.role) {
      Cure("D08", fmt::format("{} belongs to role {}", name.Sql(), there->second),
           "only its owner may change a table's columns",
           {fmt::format("GRANT OWNERSHIP ON TABLE {} TO ROLE {} COPY CURRENT GRANTS", name.Sql(),
                        QuoteIdentifier(config_.role))});
    }
  }
  if (findings_.size() == before) Ok("D08", "no table of somebody else's is in the way");
}

/// S26.
void Probe::CheckNames() {
  const std::vector<std::string> problems = NameProblems(names_, probe_.tables);
  for (const std::string& problem : problems) {
    Add(Severity::kFail, "S26", problem, "the destination holds one of each name",
        "leave one out in `tables` or `columns`, or rename it");
  }
  if (problems.empty() && !probe_.tables.empty()) Ok("S26", "names fit into Snowflake");
}

void Probe::CleanUp() {
  for (; !made_.empty(); made_.pop_back()) {
    const Made& made = made_.back();
    const SqlOutcome dropped = Ask("drop " + made.what, made.drop);
    if (dropped.status.ok()) continue;
    findings_.push_back({Severity::kWarn,
                         "D05",
                         fmt::format("the check's own {} could not be dropped", made.what),
                         PartsOf(dropped.status).why,
                         made.drop + ";",
                         {made.drop}});
  }
}

}  // namespace

SnowflakeProbeReport ProbeSnowflake(const SnowflakeProbe& probe, const Clock& clock) {
  return Probe(probe, clock).Run();
}

}  // namespace etl

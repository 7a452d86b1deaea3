#include "postgres/preflight.h"

#include <algorithm>
#include <set>

#include <fmt/format.h>
#include <libpq-fe.h>

#include "postgres/source_setup.h"
#include "postgres/table_pattern.h"
#include "postgres/table_query.h"
#include "postgres/type_resolver.h"

namespace etl {
namespace {

using Severity = PreflightFinding::Severity;

constexpr int64_t kGigabyte = int64_t{1} << 30;

class Preflight {
 public:
  Preflight(const SourceOptions& source, const PreflightOptions& options, Instant deadline)
      : source_(source), options_(options), deadline_(deadline) {}

  std::vector<PreflightFinding> Run() {
    if (Status status = Look(); !status.ok()) Fail("S06", status);
    return std::move(findings_);
  }

 private:
  Status Look();
  bool Connect();
  Status CheckServer();
  Status CheckRole();
  Status CheckSlots();
  Status CheckOtherSlots();
  Status CheckPublication();
  Status CheckRightToPublish(const std::vector<CandidateTable>& selected);
  Status CheckTables();
  void CheckTable(const TableFacts& table);
  void CheckIdentity(const TableFacts& table);
  void CheckSchema(const TableFacts& table);
  std::string UsableIndex(const TableFacts& table);

  void Add(Severity severity, std::string id, std::string what, std::string why = {},
           std::string remedy = {}) {
    findings_.push_back(
        {severity, std::move(id), std::move(what), std::move(why), std::move(remedy)});
  }
  void Ok(std::string id, std::string what) { Add(Severity::kOk, std::move(id), std::move(what)); }
  void Fail(std::string id, const Status& status) {
    ErrorParts parts = PartsOf(status);
    Add(Severity::kFail, std::move(id), parts.what, parts.why, parts.remedy);
  }
  Result<PgResult> Ask(const std::string& sql) { return connection_->Query(sql, deadline_); }
  Result<std::string> Setting(const std::string& name) {
    ETL_ASSIGN_OR_RETURN(const PgResult row,
                         Ask("SELECT setting FROM pg_settings WHERE name = " + QuoteLiteral(name)));
    return row.rows() == 0 ? std::string() : row.String(0, 0);
  }

  const SourceOptions& source_;
  const PreflightOptions& options_;
  const Instant deadline_;
  std::vector<PreflightFinding> findings_;
  std::unique_ptr<PgConnection> connection_;
  std::unique_ptr<SourceSetup> setup_;
  bool slot_exists_ = false;
  bool publication_exists_ = false;
  std::vector<TableId> unpublished_;  ///< tables that the publication would be made of
};

bool Preflight::Connect() {
  auto connected = PgConnection::Connect(source_, PgConnection::Mode::kNormal, deadline_);
  if (!connected.ok()) {
    const std::string code = PartsOf(connected.status()).code;
    Fail(code == "ETL-S103" ? "S02" : code == "ETL-S109" ? "S03" : "S01", connected.status());
    return false;
  }
  connection_ = std::move(*connected);
  PGconn* handle = connection_->handle();
  const char* protocol = PQsslInUse(handle) != 0 ? PQsslAttribute(handle, "protocol") : nullptr;
  Ok("S01", fmt::format("{} answers, {}", DescribeSource(source_),
                        protocol == nullptr ? "without TLS" : protocol));
  Ok("S02", fmt::format("user {} is let in", PQuser(handle)));
  return true;
}

Status Preflight::Look() {
  if (!Connect()) return Status::OK();
  ETL_RETURN_IF_ERROR(CheckServer());
  ETL_RETURN_IF_ERROR(CheckRole());
  auto setup = SourceSetup::Connect(source_, deadline_);
  if (!setup.ok()) {
    Fail("S06", setup.status());
    return Status::OK();
  }
  setup_ = std::move(*setup);
  Ok("S06", fmt::format("replication connection to system {}", setup_->system().system_id));
  ETL_RETURN_IF_ERROR(CheckSlots());
  ETL_RETURN_IF_ERROR(CheckOtherSlots());
  ETL_RETURN_IF_ERROR(CheckPublication());
  return CheckTables();
}

Status Preflight::CheckServer() {
  const int major = connection_->server_version() / 10000;
  if (major > 18) {
    Add(Severity::kWarn, "S03",
        fmt::format("PostgreSQL {} is newer than what was tested (14 to 18)", major));
  } else {
    Ok("S03", fmt::format("PostgreSQL {}", major));
  }
  ETL_ASSIGN_OR_RETURN(const std::string wal_level, Setting("wal_level"));
  if (wal_level == "logical" || major > 18) {
    Ok("S04", "wal_level is logical");
  } else {
    Add(Severity::kFail, "S04", "wal_level is " + wal_level, "logical replication needs logical",
        "ALTER SYSTEM SET wal_level = logical; -- then restart PostgreSQL;");
  }
  ETL_ASSIGN_OR_RETURN(const std::string encoding, Setting("server_encoding"));
  if (encoding == "SQL_ASCII") {
    Add(Severity::kWarn, "S25", "the database's encoding is SQL_ASCII",
        "its bytes may be no UTF-8; such values follow on_unrepresentable");
  } else {
    Ok("S25", "encoding " + encoding);
  }
  ETL_ASSIGN_OR_RETURN(const PgResult standby,
                       Ask("SELECT pg_is_in_recovery(), current_setting('hot_standby_feedback')"));
  if (standby.Bool(0, 0)) {
    if (major < 16) {
      Add(Severity::kFail, "S20", "the source is a standby",
          "before PostgreSQL 16 a standby cannot decode WAL", "connect to the primary");
    } else if (standby.Text(0, 1) != "on") {
      Add(Severity::kFail, "S20", "hot_standby_feedback is off on this standby",
          "the primary may remove what the slot needs, which invalidates it",
          "ALTER SYSTEM SET hot_standby_feedback = on;");
    }
  }
  // Sessions raise a limit that is too short for themselves.
  ETL_ASSIGN_OR_RETURN(const std::string timeout, Setting("wal_sender_timeout"));
  Ok("S28", fmt::format("wal_sender_timeout {} ms", timeout));
  return Status::OK();
}

Status Preflight::CheckRole() {
  ETL_ASSIGN_OR_RETURN(const PgResult role,
                       Ask("SELECT r.rolname, r.rolreplication OR r.rolsuper OR EXISTS (SELECT "
                           "FROM pg_roles m WHERE m.rolname IN "
                           "('rds_replication', 'rds_superuser', 'cloudsqlsuperuser', "
                           "'azure_pg_admin') AND pg_has_role(r.oid, m.oid, 'MEMBER')) "
                           "FROM pg_roles r WHERE r.rolname = current_user"));
  if (role.rows() == 1 && role.Bool(0, 1)) {
    Ok("S05", "the role may replicate");
  } else {
    const std::string name =
        role.rows() == 1 ? role.String(0, 0) : std::string(PQuser(connection_->handle()));
    Add(Severity::kFail, "S05", fmt::format("role \"{}\" may not replicate", name),
        "it lacks REPLICATION", "ALTER ROLE " + QuoteIdentifier(name) + " REPLICATION;");
  }
  return Status::OK();
}

Status Preflight::CheckSlots() {
  ETL_ASSIGN_OR_RETURN(const std::optional<SlotFacts> slot,
                       setup_->FindSlot(options_.slot, deadline_));
  slot_exists_ = slot.has_value();
  ETL_ASSIGN_OR_RETURN(
      const PgResult free,
      Ask("SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM "
          "pg_replication_slots), "
          "current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_stat_replication)"));
  if (slot_exists_) {
    const Status usable = CheckSlotUsable(options_.slot, *slot, setup_->system());
    if (usable.ok()) {
      Ok("S07", fmt::format("slot \"{}\" exists", options_.slot));
    } else {
      Fail("S07", usable);
    }
  } else if (free.Int(0, 0) < 2) {
    Add(Severity::kFail, "S07", fmt::format("{} replication slots are free", free.Int(0, 0)),
        "two are needed, one of them only while the slot is created (max_replication_slots)",
        "ALTER SYSTEM SET max_replication_slots = 20; -- then restart PostgreSQL;");
  } else {
    Ok("S07", fmt::format("{} replication slots are free", free.Int(0, 0)));
  }
  // The connection of this check is one of them and ends with it.
  if (free.Int(0, 1) + 1 < 1) {
    Add(Severity::kFail, "S08", "no WAL sender is free", "all of max_wal_senders are in use",
        "ALTER SYSTEM SET max_wal_senders = 20; -- then restart PostgreSQL;");
  } else {
    Ok("S08", fmt::format("{} WAL senders are free", free.Int(0, 1) + 1));
  }
  ETL_ASSIGN_OR_RETURN(const PgResult keep, Ask("SELECT setting::bigint * 1048576 FROM pg_settings "
                                                "WHERE name = 'max_slot_wal_keep_size'"));
  const int64_t bytes = keep.rows() == 0 ? -1 : keep.Int(0, 0);
  if (bytes < 0) {
    Add(Severity::kWarn, "S09", "max_slot_wal_keep_size is -1",
        "a stopped pipeline holds back WAL until the source's disk is full",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();");
  } else if (bytes == 0) {
    Add(Severity::kFail, "S09", "max_slot_wal_keep_size is 0",
        "the slot is lost at the next checkpoint",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();");
  } else if (bytes < kGigabyte) {
    Add(Severity::kWarn, "S09", fmt::format("max_slot_wal_keep_size is only {} MB", bytes >> 20),
        "a short stop of the pipeline loses the slot, and all tables are copied again",
        "ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'; SELECT pg_reload_conf();");
  } else {
    Ok("S09", fmt::format("max_slot_wal_keep_size is {} GB", bytes / kGigabyte));
  }
  ETL_ASSIGN_OR_RETURN(const PgResult idle,
                       Ask("SELECT extract(epoch FROM "
                           "current_setting('idle_replication_slot_timeout', true)::interval)"));
  if (!idle.Null(0, 0) && idle.Double(0, 0) > 0 && idle.Double(0, 0) < 86400) {
    Add(Severity::kWarn, "S10", "idle_replication_slot_timeout is shorter than a day",
        "a pipeline that is stopped for longer loses its slot",
        "ALTER SYSTEM SET idle_replication_slot_timeout = '3d'; SELECT pg_reload_conf();");
  }
  return Status::OK();
}

Status Preflight::CheckOtherSlots() {
  ETL_ASSIGN_OR_RETURN(
      const PgResult slots,
      Ask("SELECT s.slot_name, pg_size_pretty(pg_wal_lsn_diff(" +
          std::string(kReachablePositionSql) +
          ", s.restart_lsn)) FROM pg_replication_slots s WHERE s.slot_name LIKE 'etl\\_%' AND NOT "
          "s.active "
          "AND NOT s.temporary AND s.database = current_database() AND s.slot_name <> " +
          QuoteLiteral(options_.slot)));
  for (int i = 0; i < slots.rows(); ++i) {
    Add(Severity::kWarn, "S23", fmt::format("slot \"{}\" has no reader", slots.Text(i, 0)),
        fmt::format("it holds back {} of WAL; another pipeline's, or left behind",
                    slots.Text(i, 1)),
        fmt::format("SELECT pg_drop_replication_slot({}); -- if no pipeline uses it;",
                    QuoteLiteral(slots.Text(i, 0))));
  }
  if (slot_exists_) return Status::OK();
  ETL_ASSIGN_OR_RETURN(const std::vector<std::string> blockers,
                       setup_->SlotCreationBlockers(deadline_));
  for (const std::string& blocker : blockers) {
    Add(Severity::kWarn, "S21", "the slot cannot be created before this has ended: " + blocker,
        "creation waits for all transactions that have written");
  }
  if (blockers.empty()) Ok("S21", "no open transaction holds up the slot's creation");
  return Status::OK();
}

Status Preflight::CheckRightToPublish(const std::vector<CandidateTable>& selected) {
  std::string names;
  for (const CandidateTable& table : selected) {
    unpublished_.push_back(table.id);
    names += (names.empty() ? "" : ", ") + QuoteTable(table.name.schema, table.name.name);
  }
  ETL_ASSIGN_OR_RETURN(const PgResult right,
                       Ask("SELECT has_database_privilege(current_database(), 'CREATE')"));
  ETL_ASSIGN_OR_RETURN(const PgResult owned,
                       Ask(fmt::format("SELECT count(*) FROM pg_class c WHERE NOT "
                                       "pg_has_role(c.relowner, 'USAGE') AND c.oid IN ({})",
                                       [&] {
                                         std::string oids = "0";
                                         for (TableId id : unpublished_)
                                           oids += fmt::format(", {}", id.oid);
                                         return oids;
                                       }())));
  if (right.Bool(0, 0) && owned.Int(0, 0) == 0 && !setup_->system().in_recovery) {
    Ok("S11", fmt::format("publication \"{}\" will be created for {} tables", options_.publication,
                          selected.size()));
    return Status::OK();
  }
  Add(Severity::kFail, "S11",
      fmt::format("publication \"{}\" does not exist, and this role cannot create it",
                  options_.publication),
      "that needs CREATE on the database and ownership of the tables",
      fmt::format("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true);",
                  QuoteIdentifier(options_.publication), names));
  return Status::OK();
}

Status Preflight::CheckPublication() {
  ETL_ASSIGN_OR_RETURN(const std::vector<CandidateTable> all,
                       setup_->ListCandidateTables(deadline_));
  std::vector<CandidateTable> selected;
  for (const CandidateTable& table : all) {
    if (!MatchesTablePatterns(options_.tables, table.name.schema, table.name.name)) continue;
    if (table.persistence == 'u') {
      Add(Severity::kWarn, "S19",
          fmt::format("{}.{} is unlogged and never in the stream", table.name.schema,
                      table.name.name),
          "it will be left out",
          "ALTER TABLE " + QuoteTable(table.name.schema, table.name.name) + " SET LOGGED;");
      continue;
    }
    selected.push_back(table);
  }
  if (!options_.tables.empty() && selected.empty()) {
    Add(Severity::kFail, "S12", "`tables` selects no table of the source",
        fmt::format("there are {} tables to choose from", all.size()),
        "correct the patterns in `tables`");
  }
  ETL_ASSIGN_OR_RETURN(const std::optional<PublicationFacts> found,
                       setup_->FindPublication(options_.publication, deadline_));
  publication_exists_ = found.has_value();
  if (!found) {
    if (!selected.empty()) return CheckRightToPublish(selected);
    if (options_.tables.empty()) {
      Add(Severity::kFail, "S11",
          fmt::format("publication \"{}\" does not exist", options_.publication),
          "and `tables` does not say what to publish",
          "list tables in the pipeline's `tables`, or create the publication");
    }
    return Status::OK();
  }
  const std::string quoted = QuoteIdentifier(options_.publication);
  if (found->tables.empty()) {
    Add(Severity::kFail, "S11", fmt::format("publication \"{}\" is empty", options_.publication),
        {}, "ALTER PUBLICATION " + quoted + " ADD TABLE …;");
  } else if (!(found->inserts && found->updates && found->deletes && found->truncates)) {
    Add(Severity::kFail, "S11",
        fmt::format("publication \"{}\" does not publish all operations", options_.publication),
        "the copy would differ from the source",
        "ALTER PUBLICATION " + quoted + " SET (publish = 'insert, update, delete, truncate');");
  } else {
    Ok("S11", fmt::format("publication \"{}\" holds {} tables", options_.publication,
                          found->tables.size()));
  }
  const std::set<TableName> held(found->tables.begin(), found->tables.end());
  bool complete = true;
  for (const CandidateTable& table : selected) {
    if (held.contains(table.name)) continue;
    const std::string name = QuoteTable(table.name.schema, table.name.name);
    if (table.kind == 'p' && !found->via_root) {
      Add(Severity::kFail, "S19",
          fmt::format("{}.{} is published partition by partition", table.name.schema,
                      table.name.name),
          "publish_via_partition_root is off",
          "ALTER PUBLICATION " + quoted + " SET (publish_via_partition_root = true);");
    } else if (!found->ours) {
      Add(Severity::kFail, "S12",
          fmt::format("{}.{} is not published", table.name.schema, table.name.name),
          "etl-stream does not change a publication that it did not create",
          "ALTER PUBLICATION " + quoted + " ADD TABLE " + name + ";");
    } else {
      unpublished_.push_back(table.id);
      continue;
    }
    complete = false;
  }
  if (complete && !selected.empty()) Ok("S12", fmt::format("{} selected tables", selected.size()));
  return Status::OK();
}

Status Preflight::CheckTables() {
  std::vector<TableFacts> tables;
  if (publication_exists_) {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer,
                         LoadTables(*connection_, options_.publication, deadline_));
    tables = std::move(answer.tables);
  }
  if (!unpublished_.empty()) {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer, LoadTables(*connection_, unpublished_, deadline_));
    for (TableFacts& table : answer.tables) tables.push_back(std::move(table));
  }
  std::map<std::string, std::string> names;
  for (const TableFacts& table : tables) {
    if (!options_.tables.empty() &&
        !MatchesTablePatterns(options_.tables, table.schema, table.name))
      continue;
    const auto [it, fresh] = names.emplace(FoldCase(table.QualifiedName()), table.QualifiedName());
    if (!fresh) {
      Add(Severity::kFail, "S26",
          fmt::format("{} and {} differ only in case", it->second, table.QualifiedName()),
          "the destination does not tell them apart",
          "exclude one of them in `tables`, or rename it");
    }
    CheckTable(table);
  }
  return Status::OK();
}

void Preflight::CheckTable(const TableFacts& table) {
  const size_t before = findings_.size();
  CheckIdentity(table);
  CheckSchema(table);
  const std::string quoted = QuoteTable(table.schema, table.name);
  const std::string role = QuoteIdentifier(PQuser(connection_->handle()));
  if (table.row_security) {
    Add(Severity::kFail, "S17",
        table.QualifiedName() + ": row-level security would hide rows from the copy",
        "the stream sends them all", "ALTER ROLE " + role + " BYPASSRLS;");
  }
  if (!table.can_select) {
    Add(Severity::kFail, "S18", table.QualifiedName() + ": the role may not read it",
        "the copy needs SELECT",
        "GRANT USAGE ON SCHEMA " + QuoteIdentifier(table.schema) + " TO " + role +
            "; GRANT SELECT ON " + quoted +
            (table.kind == 'p' ? " TO " + role + "; -- and on its partitions;"
                               : " TO " + role + ";"));
  }
  if (table.persistence == 'u') {
    Add(Severity::kFail, "S19", table.QualifiedName() + " is unlogged and never in the stream", {},
        "ALTER TABLE " + quoted + " SET LOGGED;");
  }
  if (findings_.size() == before) Ok("S13", table.QualifiedName() + " can be copied and followed");
}

void Preflight::CheckIdentity(const TableFacts& table) {
  const std::string quoted = QuoteTable(table.schema, table.name);
  if (!table.key.empty() && table.replica_identity != 'n') return;
  if (table.replica_identity == 'f') {
    if (options_.append) return;
    Add(Severity::kWarn, "S13", table.QualifiedName() + " has no key and REPLICA IDENTITY FULL",
        "every update and delete compares whole rows, and the copy starts again if it is "
        "interrupted",
        "ALTER TABLE " + quoted + " ADD PRIMARY KEY (…);");
    return;
  }
  const std::string index = table.replica_identity == 'n' ? std::string() : UsableIndex(table);
  std::string remedy = "ALTER TABLE " + quoted + " REPLICA IDENTITY ";
  remedy += index.empty() ? "FULL; -- or add a primary key;"
                          : "USING INDEX " + QuoteIdentifier(index) + ";";
  if (table.replica_identity == 'n')
    remedy = "ALTER TABLE " + quoted + " REPLICA IDENTITY DEFAULT;";
  Add(Severity::kFail, "S13",
      table.QualifiedName() + ": updates and deletes cannot be matched to rows",
      table.replica_identity == 'n'
          ? "its REPLICA IDENTITY is NOTHING"
          : "it has no usable primary key, and PostgreSQL refuses its updates once published",
      remedy);
}

std::string Preflight::UsableIndex(const TableFacts& table) {
  const auto row =
      Ask(fmt::format("SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                      "WHERE i.indrelid = {} AND i.indisunique "
                      "AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS "
                      "NULL AND NOT EXISTS (SELECT FROM "
                      "pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY "
                      "(i.indkey::int2[]) AND NOT a.attnotnull) LIMIT 1",
                      table.id.oid));
  return row.ok() && row->rows() == 1 ? row->String(0, 0) : std::string();
}

void Preflight::CheckSchema(const TableFacts& table) {
  const auto rules = options_.columns.find(table.QualifiedName());
  const auto schema =
      MakeTableSchema(table, rules == options_.columns.end() ? ColumnRules{} : rules->second, 1);
  if (!schema.ok()) {
    const std::string code = PartsOf(schema.status()).code;
    Fail(code == "ETL-S111"                         ? "S14"
         : code == "ETL-S112" || code == "ETL-S113" ? "S16"
                                                    : "S26",
         schema.status());
    return;
  }
  std::string as_text;
  for (const WireColumn& column : (*schema)->wire) {
    if (column.output >= 0 && !BinaryUnderstood(*column.type)) {
      as_text += (as_text.empty() ? "" : ", ") + column.name + " (" + column.type->name + ")";
    }
  }
  if (!as_text.empty())
    Ok("S16", table.QualifiedName() + ": kept as PostgreSQL's text: " + as_text);
  for (const AttributeFacts& column : table.columns) {
    if (column.published) continue;
    Add(Severity::kWarn, "S15",
        table.QualifiedName() + ": column \"" + column.name + "\" is not published",
        "generated, or not in the publication's column list; the copy does not have it");
  }
  // A row that comes to match a filter arrives as an insert without its out-of-line values.
  const bool large =
      std::any_of(table.columns.begin(), table.columns.end(), [](const AttributeFacts& column) {
        return column.published &&
               (column.type->kind == TypeKind::kText || column.type->kind == TypeKind::kBytea ||
                column.type->kind == TypeKind::kJsonb || column.type->kind == TypeKind::kJson ||
                column.type->kind == TypeKind::kList || column.type->kind == TypeKind::kStruct ||
                column.type->kind == TypeKind::kServerText ||
                column.type->kind == TypeKind::kNumericText);
      });
  if (!table.row_filter.empty() && large && table.replica_identity != 'f') {
    Add(Severity::kFail, "S13",
        table.QualifiedName() + ": a row filter needs REPLICA IDENTITY FULL here",
        "rows that come to match the filter arrive without their out-of-line values",
        "ALTER TABLE " + QuoteTable(table.schema, table.name) + " REPLICA IDENTITY FULL;");
  }
}

}  // namespace

std::vector<PreflightFinding> RunSourcePreflight(const SourceOptions& source,
                                                 const PreflightOptions& options,
                                                 Instant deadline) {
  return Preflight(source, options, deadline).Run();
}

}  // namespace etl

#include "postgres/preflight.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <libpq-fe.h>

#include "postgres/libpq_wal_stream.h"
#include "postgres/preflight_run.h"
#include "postgres/preflight_server.h"
#include "postgres/table_query.h"

namespace etl {
namespace {

constexpr int64_t kGigabyte = int64_t{1} << 30;

}  // namespace

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
  ETL_RETURN_IF_ERROR(CheckClock());
  ETL_RETURN_IF_ERROR(CheckSenderTimeout());
  ETL_RETURN_IF_ERROR(CheckSlots());
  ETL_RETURN_IF_ERROR(CheckOtherSlots());
  ETL_RETURN_IF_ERROR(CheckFailover());
  ETL_RETURN_IF_ERROR(CheckDecodingMemory());
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
        Sql{{"ALTER SYSTEM SET wal_level = logical"}}, "then restart PostgreSQL");
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
          Sql{{"ALTER SYSTEM SET hot_standby_feedback = on", "SELECT pg_reload_conf()"}});
    }
  }
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
        "it lacks REPLICATION", Sql{{"ALTER ROLE " + QuoteIdentifier(name) + " REPLICATION"}});
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
        Sql{{"ALTER SYSTEM SET max_replication_slots = 20"}}, "then restart PostgreSQL");
  } else {
    Ok("S07", fmt::format("{} replication slots are free", free.Int(0, 0)));
  }
  // The connection of this check is one of them and ends with it.
  if (free.Int(0, 1) + 1 < 1) {
    Add(Severity::kFail, "S08", "no WAL sender is free", "all of max_wal_senders are in use",
        Sql{{"ALTER SYSTEM SET max_wal_senders = 20"}}, "then restart PostgreSQL");
  } else {
    Ok("S08", fmt::format("{} WAL senders are free", free.Int(0, 1) + 1));
  }
  ETL_ASSIGN_OR_RETURN(const PgResult keep, Ask("SELECT setting::bigint * 1048576 FROM pg_settings "
                                                "WHERE name = 'max_slot_wal_keep_size'"));
  const int64_t bytes = keep.rows() == 0 ? -1 : keep.Int(0, 0);
  if (bytes < 0) {
    Add(Severity::kWarn, "S09", "max_slot_wal_keep_size is -1",
        "a stopped pipeline holds back WAL until the source's disk is full",
        Sql{{"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'", "SELECT pg_reload_conf()"}});
  } else if (bytes == 0) {
    Add(Severity::kFail, "S09", "max_slot_wal_keep_size is 0",
        "the slot is lost at the next checkpoint",
        Sql{{"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'", "SELECT pg_reload_conf()"}});
  } else if (bytes < kGigabyte) {
    Add(Severity::kWarn, "S09", fmt::format("max_slot_wal_keep_size is only {} MB", bytes >> 20),
        "a short stop of the pipeline loses the slot, and all tables are copied again",
        Sql{{"ALTER SYSTEM SET max_slot_wal_keep_size = '50GB'", "SELECT pg_reload_conf()"}});
  } else {
    Ok("S09", fmt::format("max_slot_wal_keep_size is {} GB", bytes / kGigabyte));
  }
  ETL_ASSIGN_OR_RETURN(const PgResult idle,
                       Ask("SELECT extract(epoch FROM "
                           "current_setting('idle_replication_slot_timeout', true)::interval)"));
  if (!idle.Null(0, 0) && idle.Double(0, 0) > 0 && idle.Double(0, 0) < 86400) {
    Add(Severity::kWarn, "S10", "idle_replication_slot_timeout is shorter than a day",
        "a pipeline that is stopped for longer loses its slot",
        Sql{{"ALTER SYSTEM SET idle_replication_slot_timeout = '3d'", "SELECT pg_reload_conf()"}});
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
        Sql{{fmt::format("SELECT pg_drop_replication_slot({})", QuoteLiteral(slots.Text(i, 0)))}},
        "if no pipeline uses it");
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

Status Preflight::CheckClock() {
  const UnixMicros before = clock_.WallNow();
  ETL_ASSIGN_OR_RETURN(const PgResult now,
                       Ask("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"));
  findings_.push_back(JudgeClock(before, now.Int(0, 0), clock_.WallNow()));
  return Status::OK();
}

// As a stream would have it, in a session of its own kind.
Status Preflight::CheckSenderTimeout() {
  PgConnection& session = setup_->connection();
  const auto ask = [&]() -> Result<int64_t> {
    ETL_ASSIGN_OR_RETURN(
        const PgResult row,
        session.Query("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'",
                      deadline_));
    return row.rows() == 0 ? 0 : row.Int(0, 0);
  };
  ETL_ASSIGN_OR_RETURN(const int64_t server, ask());
  ETL_RETURN_IF_ERROR(RaiseSenderTimeout(session, deadline_));
  ETL_ASSIGN_OR_RETURN(const int64_t raised, ask());
  findings_.push_back(JudgeSenderTimeout(server, raised));
  return Status::OK();
}

Status Preflight::CheckFailover() {
  if (connection_->server_version() < 170000 || setup_->system().in_recovery) return Status::OK();
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      Ask("SELECT (SELECT count(*) FROM pg_replication_slots WHERE slot_type = 'physical'), "
          "(SELECT "
          "to_jsonb(s) ->> 'failover' FROM pg_replication_slots s WHERE slot_name = " +
          QuoteLiteral(options_.slot) +
          "), coalesce(current_setting('synchronized_standby_slots', true), '') <> ''"));
  FailoverFacts facts{.standbys = row.Int(0, 0), .slot = {}, .reader_waits = row.Bool(0, 2)};
  if (!row.Null(0, 1)) facts.slot = row.Text(0, 1) == "true";
  findings_.push_back(JudgeFailover(facts, options_.slot));
  return Status::OK();
}

// Of our slot; before there is one, of all that decode this database.
Status Preflight::CheckDecodingMemory() {
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      Ask("SELECT (SELECT setting::bigint * 1024 FROM pg_settings WHERE name = "
          "'logical_decoding_work_mem'), sum(t.spill_txns), sum(t.spill_bytes), "
          "sum(t.stream_txns), sum(t.stream_bytes) FROM pg_stat_replication_slots t JOIN "
          "pg_replication_slots s USING (slot_name) WHERE s.database = current_database() AND " +
          (slot_exists_ ? "s.slot_name = " + QuoteLiteral(options_.slot) : "true")));
  findings_.push_back(JudgeDecodingMemory({.work_mem = row.Int(0, 0),
                                           .spilled = row.Int(0, 1),
                                           .spilled_bytes = row.Int(0, 2),
                                           .streamed = row.Int(0, 3),
                                           .streamed_bytes = row.Int(0, 4)},
                                          PQuser(connection_->handle())));
  return Status::OK();
}

// Rows of a foreign table are in another server's WAL: neither stream nor copy has them.

PreflightFinding WithSql(PreflightFinding finding, std::vector<std::string> sql,
                         const std::string& note) {
  finding.remedy = sql.empty() ? note : fmt::format("{};", fmt::join(sql, "; "));
  if (!sql.empty() && !note.empty()) finding.remedy += " -- " + note;
  finding.sql = std::move(sql);
  return finding;
}

std::vector<PreflightFinding> RunSourcePreflight(const SourceOptions& source,
                                                 const PreflightOptions& options, Instant deadline,
                                                 const Clock& clock) {
  return Preflight(source, options, deadline, clock).Run();
}

}  // namespace etl

#include "postgres/source_setup.h"

#include <algorithm>
#include <charconv>
#include <set>

#include <fmt/format.h>

#include "base/log.h"
#include "postgres/slot_creation.h"

namespace etl {
namespace {

// How a publication of ours is known, also after a lost catalog.
constexpr std::string_view kPublicationComment = "created and managed by etl-stream";

std::string TableList(const std::vector<TableName>& tables) {
  std::string list;
  for (const TableName& table : tables) {
    if (!list.empty()) list += ", ";
    list += QuoteTable(table.schema, table.name);
  }
  return list;
}

std::vector<TableName> Missing(const PublicationFacts& facts,
                               const std::vector<TableName>& wanted) {
  const std::set<TableName> held(facts.tables.begin(), facts.tables.end());
  std::vector<TableName> missing;
  for (const TableName& table : wanted) {
    if (!held.contains(table)) missing.push_back(table);
  }
  return missing;
}

Status Lost(std::string_view code, std::string what, std::string why) {
  return MakeError(ErrorKind::kLost,
                   ErrorParts{.code = std::string(code),
                              .what = std::move(what),
                              .why = std::move(why),
                              .safe = "what the destination holds is left as it is",
                              .remedy = "etl-stream pipeline resync PIPELINE"});
}

// A server that still recovers may yet get there: a standby that was started anew, say.
Status Behind(const SystemFacts& system, std::string what, std::string why) {
  if (!system.in_recovery) return Lost("ETL-S205", std::move(what), std::move(why));
  return MakeError(ErrorKind::kTransient, ErrorParts{.code = "ETL-S204",
                                                     .what = std::move(what) + " as yet",
                                                     .why = std::move(why) + "; it still recovers",
                                                     .safe = {},
                                                     .remedy = "it is tried again"});
}

std::string QuotedSlot(const std::string& name) { return "slot \"" + name + "\""; }

// The temporary slot that `name` is made from. One name for a slot, so that runs that are killed
// while they wait do not use up the server's slots.
std::string FirstSlot(const std::string& name) {
  constexpr size_t kLongestName = 63;
  constexpr std::string_view kSuffix = "_being_created";
  return name.substr(0, kLongestName - kSuffix.size()).append(kSuffix);
}

Status InUse(const std::string& name, const SlotFacts& slot) {
  return MakeError(ErrorKind::kBusy,
                   ErrorParts{.code = "ETL-S202",
                              .what = QuotedSlot(name) + " is in use",
                              .why = fmt::format("server process {} {} it", slot.active_pid,
                                                 slot.temporary ? "creates" : "holds"),
                              .safe = {},
                              .remedy = "another etl-stream may run this pipeline; end it, or "
                                        "choose another name in the pipeline's `slot`"});
}

constexpr std::string_view kBlockersSql =
    "SELECT 'pid ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), a.backend_type) || "
    "', transaction open since ' "
    "|| coalesce(date_trunc('second', now() - a.xact_start)::text, '?') || ')' "
    "FROM pg_stat_activity a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() "
    "UNION ALL SELECT 'prepared transaction ' || quote_literal(p.gid) || ' (since ' "
    "|| date_trunc('second', now() - p.prepared)::text || ')' FROM pg_prepared_xacts p";

Result<std::vector<std::string>> Blockers(PgConnection& connection, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const PgResult rows, connection.Query(std::string(kBlockersSql), deadline));
  std::vector<std::string> blockers;
  for (int row = 0; row < rows.rows(); ++row) blockers.push_back(rows.String(row, 0));
  return blockers;
}

std::string Join(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

Instant In(std::chrono::milliseconds time) { return SystemClock().Now() + time; }

}  // namespace

bool LosesPublishedChanges(int version) {
  constexpr int kMended[] = {130021, 140018, 150013, 160009, 170005};
  for (const int mended : kMended) {
    if (version / 10000 == mended / 10000) return version < mended;
  }
  return version < 130000;
}

Result<std::unique_ptr<SourceSetup>> SourceSetup::Connect(const SourceOptions& options,
                                                          Instant deadline) {
  std::unique_ptr<SourceSetup> setup(new SourceSetup(options));
  ETL_ASSIGN_OR_RETURN(setup->connection_,
                       PgConnection::Connect(options, PgConnection::Mode::kReplication, deadline));
  ETL_RETURN_IF_ERROR(setup->Identify(deadline));
  return setup;
}

Status SourceSetup::Identify(Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const PgResult system, connection_->Query("IDENTIFY_SYSTEM", deadline));
  if (system.rows() != 1 || system.columns() < 4) {
    return MakeError(ErrorKind::kConfig, "ETL-S104", "the server does not answer IDENTIFY_SYSTEM",
                     "connect to PostgreSQL itself, not through a pooler");
  }
  const std::string_view id = system.Text(0, 0);
  std::from_chars(id.data(), id.data() + id.size(), system_.system_id);
  system_.timeline = system.Oid(0, 1);
  system_.database = system.String(0, 3);
  system_.version = connection_->server_version();
  ETL_ASSIGN_OR_RETURN(
      const PgResult facts,
      connection_->Query("SELECT oid, pg_is_in_recovery(), CASE WHEN pg_is_in_recovery() THEN "
                         "pg_last_wal_replay_lsn() "
                         "ELSE pg_current_wal_flush_lsn() END, current_setting('server_encoding') "
                         "FROM pg_database WHERE datname = current_database()",
                         deadline));
  system_.database_oid = facts.Oid(0, 0);
  system_.in_recovery = facts.Bool(0, 1);
  system_.flush = facts.LsnAt(0, 2);
  system_.encoding = facts.String(0, 3);
  return Status::OK();
}

Result<std::string> SourceSetup::ReadLcMonetary(Instant deadline) {
  // What the database gives to everyone, not what this role or session was given.
  ETL_ASSIGN_OR_RETURN(const PgResult shown, connection_->Query("SHOW lc_monetary", deadline));
  return shown.String(0, 0);
}

Result<std::vector<CandidateTable>> SourceSetup::ListCandidateTables(Instant deadline) {
  ETL_ASSIGN_OR_RETURN(
      const PgResult rows,
      connection_->Query(
          "SELECT n.nspname, c.relname, c.oid, c.relkind, c.relpersistence FROM pg_class c "
          "JOIN pg_namespace n ON n.oid = c.relnamespace "
          "WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' "
          "AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.oid >= 16384 "
          "ORDER BY 1, 2",
          deadline));
  std::vector<CandidateTable> tables;
  for (int row = 0; row < rows.rows(); ++row) {
    tables.push_back({.name = {rows.String(row, 0), rows.String(row, 1)},
                      .id = {rows.Oid(row, 2)},
                      .kind = rows.Text(row, 3)[0],
                      .persistence = rows.Text(row, 4)[0]});
  }
  return tables;
}

Result<std::optional<PublicationFacts>> SourceSetup::FindPublication(const std::string& name,
                                                                     Instant deadline) {
  const std::string literal = QuoteLiteral(name);
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      connection_->Query(
          "SELECT coalesce(obj_description(oid, 'pg_publication'), ''), puballtables, pubviaroot, "
          "pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = " +
              literal,
          deadline));
  if (row.rows() == 0) return std::optional<PublicationFacts>();
  PublicationFacts facts{.ours = row.Text(0, 0) == kPublicationComment,
                         .all_tables = row.Bool(0, 1),
                         .via_root = row.Bool(0, 2),
                         .inserts = row.Bool(0, 3),
                         .updates = row.Bool(0, 4),
                         .deletes = row.Bool(0, 5),
                         .truncates = row.Bool(0, 6),
                         .tables = {}};
  ETL_ASSIGN_OR_RETURN(
      const PgResult tables,
      connection_->Query(
          "SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = " + literal +
              " ORDER BY 1, 2",
          deadline));
  for (int i = 0; i < tables.rows(); ++i)
    facts.tables.push_back({tables.String(i, 0), tables.String(i, 1)});
  return std::optional<PublicationFacts>(std::move(facts));
}

Result<PublicationFacts> SourceSetup::EnsurePublication(const std::string& name,
                                                        const std::vector<TableName>& tables,
                                                        Instant deadline) {
  ETL_ASSIGN_OR_RETURN(std::optional<PublicationFacts> found, FindPublication(name, deadline));
  const std::string quoted = QuoteIdentifier(name);
  std::string sql;
  if (!found) {
    const std::string create = "CREATE PUBLICATION " + quoted + " FOR TABLE " + TableList(tables) +
                               " WITH (publish_via_partition_root = true)";
    if (tables.empty()) {
      return MakeError(ErrorKind::kConfig, "ETL-S120",
                       "publication \"" + name +
                           "\" does not exist, and `tables` selects no table of the source",
                       "list tables in the pipeline's `tables`, or create the publication");
    }
    if (system_.in_recovery) {
      return MakeError(
          ErrorKind::kConfig, "ETL-S120",
          "publication \"" + name + "\" does not exist, and a standby cannot create it",
          "on the primary: " + create + ";");
    }
    sql = "BEGIN; " + create + "; COMMENT ON PUBLICATION " + quoted + " IS " +
          QuoteLiteral(kPublicationComment) + "; COMMIT";
  } else {
    ETL_RETURN_IF_ERROR(CheckOperations(
        name, found->inserts && found->updates && found->deletes && found->truncates));
    const std::vector<TableName> missing = Missing(*found, tables);
    if (missing.empty()) return std::move(*found);
    sql = "ALTER PUBLICATION " + quoted + " ADD TABLE " + TableList(missing);
    if (!found->ours) {
      return MakeError(
          ErrorKind::kConfig,
          ErrorParts{
              .code = "ETL-S121",
              .what = fmt::format("publication \"{}\" does not hold {} of the selected tables",
                                  name, missing.size()),
              .why = "it was not created by etl-stream, which therefore does not change it",
              .safe = {},
              .remedy = sql + ";"});
    }
  }
  const Result<PgResult> done = connection_->Query(sql, deadline);
  if (!done.ok()) {
    // A failed statement leaves the transaction open.
    (void)connection_->Query("ROLLBACK", deadline);
    ErrorParts parts = PartsOf(done.status());
    parts.what = "publication \"" + name + "\" cannot be created or changed";
    if (KindOf(done.status()) == ErrorKind::kAuth) {
      parts.remedy = "as the tables' owner with CREATE on the database: " + sql + ";";
    }
    return MakeError(KindOf(done.status()), std::move(parts));
  }
  ETL_ASSIGN_OR_RETURN(found, FindPublication(name, deadline));
  if (!found)
    return MakeError(ErrorKind::kInternal, "ETL-S120", "publication \"" + name + "\" vanished");
  return std::move(*found);
}

Status SourceSetup::DropPublication(const std::string& name, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const std::optional<PublicationFacts> found,
                       FindPublication(name, deadline));
  if (!found || !found->ours) return Status::OK();
  return connection_->Query("DROP PUBLICATION " + QuoteIdentifier(name), deadline).status();
}

Result<std::optional<SlotFacts>> SourceSetup::FindSlot(const std::string& name, Instant deadline) {
  // Columns differ by version; to_jsonb names those that there are.
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      connection_->Query(
          "SELECT s.slot_type, s.temporary, s.active, s.active_pid, s.plugin, s.database, "
          "s.wal_status, "
          "coalesce(to_jsonb(s) ->> 'invalidation_reason', CASE WHEN s.wal_status = 'lost' THEN "
          "'wal_removed' "
          "WHEN to_jsonb(s) ->> 'conflicting' = 'true' THEN 'conflict with recovery' END), "
          "s.confirmed_flush_lsn, s.restart_lsn FROM pg_replication_slots s WHERE s.slot_name = " +
              QuoteLiteral(name),
          deadline));
  if (row.rows() == 0) return std::optional<SlotFacts>();
  return std::optional<SlotFacts>(SlotFacts{.created = false,
                                            .logical = row.Text(0, 0) == "logical",
                                            .temporary = row.Bool(0, 1),
                                            .active = row.Bool(0, 2),
                                            .active_pid = static_cast<int>(row.Int(0, 3)),
                                            .plugin = row.String(0, 4),
                                            .database = row.String(0, 5),
                                            .wal_status = row.String(0, 6),
                                            .invalidation = row.String(0, 7),
                                            .confirmed_flush = row.LsnAt(0, 8),
                                            .restart = row.LsnAt(0, 9)});
}

Status CheckOperations(const std::string& publication, bool all_operations) {
  if (all_operations) return Status::OK();
  return MakeError(
      ErrorKind::kConfig,
      ErrorParts{.code = "ETL-S126",
                 .what = "publication \"" + publication + "\" does not publish all operations",
                 .why = "changes of the others would be missing at the destination",
                 .safe = {},
                 .remedy = "ALTER PUBLICATION " + QuoteIdentifier(publication) +
                           " SET (publish = 'insert, update, delete, truncate');"});
}

Status CheckSlotUsable(const std::string& name, const SlotFacts& slot, const SystemFacts& system) {
  const std::string quoted = QuotedSlot(name);
  if (!slot.logical || slot.plugin != "pgoutput" || slot.database != system.database) {
    return MakeError(
        ErrorKind::kConfig, "ETL-S201",
        fmt::format("{} is not a pgoutput slot of database \"{}\"", quoted, system.database),
        "choose another name in the pipeline's `slot`, or drop that slot");
  }
  if (!slot.invalidation.empty()) {
    return Lost("ETL-S203", quoted + " was invalidated by PostgreSQL",
                "changes that were not read yet are gone: " + slot.invalidation);
  }
  return Status::OK();
}

Result<SlotFacts> SourceSetup::EnsureSlot(const std::string& name, bool temporary,
                                          Instant deadline) {
  ETL_ASSIGN_OR_RETURN(std::optional<SlotFacts> found, FindSlot(name, deadline));
  if (!found) {
    // What a killed run leaves while its session waits; the server drops it at the session's end.
    ETL_ASSIGN_OR_RETURN(const std::optional<SlotFacts> other, FindSlot(FirstSlot(name), deadline));
    if (other) return InUse(name, *other);
    return CreateSlot(name, temporary, deadline);
  }
  ETL_RETURN_IF_ERROR(CheckSlotUsable(name, *found, system_));
  // A slot that somebody else is still creating has no position, or one that does not last.
  if (found->active || !found->confirmed_flush.valid()) return InUse(name, *found);
  return std::move(*found);
}

Result<SlotFacts> SourceSetup::CreateSlot(const std::string& name, bool temporary,
                                          Instant deadline) {
  const std::string what = "create " + QuotedSlot(name);
  const Instant started = SystemClock().Now();
  Instant tell = started + std::chrono::seconds(2);
  std::unique_ptr<PgConnection> observer;
  std::vector<std::string> blockers;
  const auto look = [&](PgConnection& through) {
    auto asked = Blockers(through, In(std::chrono::seconds(1)));
    if (asked.ok()) blockers = std::move(*asked);
    if (blockers.empty() && system_.in_recovery) blockers.emplace_back(kAwaitedByStandby);
  };
  const auto waiting = [&] {
    if (SystemClock().Now() < tell) return;
    tell = SystemClock().Now() + std::chrono::seconds(10);
    if (observer == nullptr) {
      auto made =
          PgConnection::Connect(options_, PgConnection::Mode::kNormal, In(std::chrono::seconds(1)));
      if (made.ok()) observer = std::move(*made);
    }
    if (observer == nullptr) return;
    look(*observer);
    LogInfo("waiting before the slot can be created",
            {{"slot", name}, {"waiting_for", Join(blockers)}});
  };
  // A lasting slot is made as a copy of a temporary one. Whoever dies while it waits or before the
  // slot is known to be sound then leaves none behind, though the server finishes the statement.
  const std::string first = temporary ? name : FirstSlot(name);
  const Status created = CreateTemporarySlot(*connection_, first, deadline, waiting);
  if (!created.ok()) {
    if (SystemClock().Now() < deadline || PartsOf(created).code == "ETL-S209")
      return WithContext(created, what);
    if (blockers.empty()) look(*connection_);
    return MakeError(ErrorKind::kTransient,
                     ErrorParts{.code = "ETL-S204",
                                .what = what + ": gave up waiting",
                                .why = "it waited for " + Join(blockers),
                                .safe = "nothing was left behind",
                                .remedy = system_.in_recovery
                                              ? "on the primary: SELECT pg_log_standby_snapshot();"
                                              : "end these transactions: SELECT "
                                                "pg_terminate_backend(PID); or ROLLBACK PREPARED "
                                                "'GID';"});
  }
  const Instant soon = In(std::chrono::seconds(10));
  if (!temporary) {
    const Result<PgResult> copied =
        connection_->Query(fmt::format("SELECT pg_copy_logical_replication_slot({}, {}, false)",
                                       QuoteLiteral(first), QuoteLiteral(name)),
                           soon);
    ETL_RETURN_IF_ERROR(
        connection_->Query("DROP_REPLICATION_SLOT " + QuoteIdentifier(first), soon).status());
    if (!copied.ok()) return WithContext(copied.status(), what);
  }
  ETL_ASSIGN_OR_RETURN(std::optional<SlotFacts> found, FindSlot(name, soon));
  if (!found) return MakeError(ErrorKind::kLost, "ETL-S201", QuotedSlot(name) + " vanished");
  found->created = true;
  return std::move(*found);
}

Status SourceSetup::DropSlot(const std::string& name, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const std::optional<SlotFacts> found, FindSlot(name, deadline));
  if (!found) return Status::OK();
  // A reader that has just gone may still be seen as active.
  while (true) {
    const Result<PgResult> dropped =
        connection_->Query("SELECT pg_drop_replication_slot(" + QuoteLiteral(name) + ")", deadline);
    if (dropped.ok()) return Status::OK();
    if (KindOf(dropped.status()) != ErrorKind::kBusy || SystemClock().Now() >= deadline) {
      return WithContext(dropped.status(), "drop " + QuotedSlot(name));
    }
    std::vector<pollfd> none;
    WaitFor(none, std::min<Instant>(deadline, In(std::chrono::milliseconds(100))));
  }
}

std::optional<Lsn> TimelineEnd(std::string_view history, uint32_t old) {
  while (!history.empty()) {
    const size_t end = std::min(history.find('\n'), history.size());
    const std::string_view line = history.substr(0, end);
    history.remove_prefix(std::min(end + 1, history.size()));
    uint32_t parent = 0;
    const auto [next, error] = std::from_chars(line.data(), line.data() + line.size(), parent);
    if (error != std::errc() || parent != old) continue;
    std::string_view rest = line.substr(static_cast<size_t>(next - line.data()));
    rest.remove_prefix(std::min(rest.find_first_not_of(" \t"), rest.size()));
    return ParseLsn(rest.substr(0, rest.find_first_of(" \t")));
  }
  return std::nullopt;
}

Status SourceSetup::CheckTimeline(const ResumePoint& resume, ResumeAnswer* answer,
                                  Instant deadline) {
  answer->timeline = system_.timeline;
  if (resume.timeline == 0 || system_.timeline == resume.timeline) return Status::OK();
  if (system_.timeline < resume.timeline) {
    return Behind(system_, "the source is on an older timeline than the stored position",
                  fmt::format("timeline {} instead of {}: a restored backup", system_.timeline,
                              resume.timeline));
  }
  ETL_ASSIGN_OR_RETURN(
      const PgResult history,
      connection_->Query(fmt::format("TIMELINE_HISTORY {}", system_.timeline), deadline));
  answer->switched_at = TimelineEnd(history.Text(0, 1), resume.timeline);
  if (!answer->switched_at) {
    return Lost(
        "ETL-S205", "the source's history does not contain the stored position's timeline",
        fmt::format("timeline {} does not descend from {}", system_.timeline, resume.timeline));
  }
  if (resume.position > *answer->switched_at) {
    return Lost("ETL-S205", "the destination holds changes that the new primary never had",
                fmt::format("timeline {} ended at {}, the stored position is {}", resume.timeline,
                            FormatLsn(*answer->switched_at), FormatLsn(resume.position)));
  }
  return Status::OK();
}

Result<ResumeAnswer> SourceSetup::CheckResume(const ResumePoint& resume, Instant deadline) {
  const SourceIdentity& identity = resume.identity;
  if (identity.system_id != system_.system_id || identity.database_oid != system_.database_oid) {
    return Lost(
        "ETL-S205", "the source is another database than the one that was copied",
        fmt::format("system identifier {} and database {} instead of {} and {}", system_.system_id,
                    system_.database_oid, identity.system_id, identity.database_oid));
  }
  ETL_ASSIGN_OR_RETURN(const std::optional<SlotFacts> slot, FindSlot(identity.slot, deadline));
  if (!slot) {
    return Lost("ETL-S201", QuotedSlot(identity.slot) + " does not exist any more",
                "it was dropped, or did not survive a failover");
  }
  ETL_RETURN_IF_ERROR(CheckSlotUsable(identity.slot, *slot, system_));
  if (slot->confirmed_flush > resume.position) {
    return Lost(
        "ETL-S206", QuotedSlot(identity.slot) + " was moved by somebody else",
        fmt::format("it stands at {}, the destination at {}: changes in between cannot be read",
                    FormatLsn(slot->confirmed_flush), FormatLsn(resume.position)));
  }
  ResumeAnswer answer;
  ETL_RETURN_IF_ERROR(CheckTimeline(resume, &answer, deadline));
  if (system_.flush < resume.position) {
    return Behind(system_, "the source stands before the stored position",
                  fmt::format("at {}, the destination at {}: a restored backup",
                              FormatLsn(system_.flush), FormatLsn(resume.position)));
  }
  return answer;
}

Result<std::vector<std::string>> SourceSetup::SlotCreationBlockers(Instant deadline) {
  return Blockers(*connection_, deadline);
}

}  // namespace etl

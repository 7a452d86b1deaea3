#include "postgres/slot_snapshot.h"

#include <unistd.h>

#include <fmt/format.h>
#include <libpq-fe.h>

#include <atomic>
#include <optional>
#include <utility>

#include "postgres/slot_creation.h"
#include "postgres/table_query.h"
#include "postgres/wal_position.h"

namespace etl {
namespace {

// Distinguishes the temporary slots of one process; the server drops them with their session.
std::string TemporarySlotName() {
  static std::atomic<uint32_t> count{0};
  return fmt::format("etl_snapshot_{}_{}", getpid(), count.fetch_add(1));
}

// Whom the session `pid` waits for, and where the server stood before it was asked. What the slot
// starts with is written once they have ended, so the slot's position lies behind that: but for the
// moment in which a transaction that has ended still holds its locks, which the caller has to bear.
Result<std::optional<SlotWait>> WaitOf(PgConnection& observer, int pid, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(const PgResult position,
                       observer.Query(fmt::format("SELECT {}, {}, pg_is_in_recovery()",
                                                  kInsertPositionSql, kSegmentSizeSql),
                                      deadline));
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      observer.Query(
          fmt::format("SELECT w.transactionid, CASE WHEN h.pid IS NULL THEN coalesce('prepared "
                      "transaction ' || quote_literal(x.gid), 'a prepared transaction') ELSE 'pid "
                      "' || h.pid || ' (' || coalesce(nullif(a.application_name, ''), "
                      "a.backend_type, '?') || coalesce(', open for ' || date_trunc('second', "
                      "clock_timestamp() - a.xact_start), '') || ')' END FROM pg_locks w JOIN "
                      "pg_locks h ON h.locktype = 'transactionid' AND h.granted AND "
                      "h.transactionid = w.transactionid LEFT JOIN pg_stat_activity a ON a.pid = "
                      "h.pid LEFT JOIN pg_prepared_xacts x ON x.transaction = w.transactionid "
                      "WHERE w.pid = {} AND w.locktype = 'transactionid' AND NOT w.granted LIMIT 1",
                      pid),
          deadline));
  const Lsn below =
      NormaliseInsertLsn(position.LsnAt(0, 0), static_cast<uint64_t>(position.Int(0, 1)));
  if (row.rows() > 0) {
    return std::optional<SlotWait>(
        {.what = row.String(0, 1) + " to end transaction " + row.String(0, 0),
         .remedy = "end transaction " + row.String(0, 0) + ", then run verify again",
         .below = below});
  }
  if (!position.Bool(0, 2)) return std::optional<SlotWait>();
  return std::optional<SlotWait>(
      {.what = std::string(kAwaitedByStandby),
       .remedy = "on the primary: SELECT pg_log_standby_snapshot(); while verify waits",
       .below = below});
}

Status CopyFailed(PGconn* connection, const TableSchema& schema) {
  PgResult result(PQgetResult(connection));
  const Status status = result.get() == nullptr
                            ? Status::OK()
                            : StatementStatus(result, "copy " + schema.QualifiedName());
  if (!status.ok()) return status;
  return MakeError(ErrorKind::kTransient, "ETL-S204",
                   "copy " + schema.QualifiedName() + ": the connection was lost");
}

}  // namespace

Result<std::unique_ptr<SlotSnapshot>> SlotSnapshot::Open(
    const SourceOptions& source, Instant deadline,
    const std::function<void(const SlotWait&)>& waiting) {
  ETL_ASSIGN_OR_RETURN(std::unique_ptr<PgConnection> connection,
                       PgConnection::Connect(source, PgConnection::Mode::kReplication, deadline));
  ETL_RETURN_IF_ERROR(
      connection->Query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", deadline).status());
  std::unique_ptr<PgConnection> observer;
  const auto look = [&] {
    constexpr auto kLookTime = std::chrono::seconds(1);
    if (observer == nullptr) {
      auto made = PgConnection::Connect(source, PgConnection::Mode::kNormal,
                                        SystemClock().Now() + kLookTime);
      if (!made.ok()) return;
      observer = std::move(*made);
    }
    const auto wait =
        WaitOf(*observer, PQbackendPID(connection->handle()), SystemClock().Now() + kLookTime);
    if (wait.ok() && *wait) waiting(**wait);
  };
  const char* snapshot =
      connection->server_version() >= 150000 ? "(SNAPSHOT 'use')" : "USE_SNAPSHOT";
  const Result<PgResult> slot =
      connection->Query(fmt::format("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput {}",
                                    QuoteIdentifier(TemporarySlotName()), snapshot),
                        deadline, waiting ? std::function<void()>(look) : nullptr);
  if (!slot.ok()) return WithContext(LaterMayWork(slot.status()), "create a temporary slot");
  const Lsn position = slot->LsnAt(0, 1);
  return std::unique_ptr<SlotSnapshot>(new SlotSnapshot(std::move(connection), position));
}

Status SlotSnapshot::CopyTable(const TableSchema& schema, const TableFacts& facts, bool binary,
                               const std::function<Status(std::string_view)>& on_bytes) {
  std::string columns;
  for (const WireColumn& column : schema.wire)
    columns += (columns.empty() ? "" : ", ") + QuoteIdentifier(column.name);
  const std::string sql =
      fmt::format("COPY (SELECT {} FROM {}{}{}) TO STDOUT{}", columns,
                  facts.kind == 'p' ? "" : "ONLY ", QuoteTable(facts.schema, facts.name),
                  facts.row_filter.empty() ? "" : " WHERE " + facts.row_filter,
                  binary ? " (FORMAT binary)" : "");
  PGconn* connection = connection_->handle();
  PgResult started(PQexec(connection, sql.c_str()));
  if (PQresultStatus(started.get()) != PGRES_COPY_OUT) {
    ETL_RETURN_IF_ERROR(StatementStatus(started, "copy " + schema.QualifiedName()));
    return CopyFailed(connection, schema);
  }
  while (true) {
    char* buffer = nullptr;
    const int size = PQgetCopyData(connection, &buffer, 0);
    if (size == -1) break;
    if (size < 0) return CopyFailed(connection, schema);
    const Status status = on_bytes({buffer, static_cast<size_t>(size)});
    PQfreemem(buffer);
    ETL_RETURN_IF_ERROR(status);
  }
  Status outcome;
  while (PGresult* raw = PQgetResult(connection)) {
    const PgResult result(raw);
    if (outcome.ok() && PQresultStatus(raw) != PGRES_COMMAND_OK) {
      outcome = StatementStatus(result, "copy " + schema.QualifiedName());
    }
  }
  return outcome;
}

}  // namespace etl

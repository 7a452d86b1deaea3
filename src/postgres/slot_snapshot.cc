#include "postgres/slot_snapshot.h"

#include <unistd.h>

#include <fmt/format.h>
#include <libpq-fe.h>

#include <atomic>
#include <utility>

namespace etl {
namespace {

// Distinguishes the temporary slots of one process; the server drops them with their session.
std::string TemporarySlotName() {
  static std::atomic<uint32_t> count{0};
  return fmt::format("etl_snapshot_{}_{}", getpid(), count.fetch_add(1));
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

Result<std::unique_ptr<SlotSnapshot>> SlotSnapshot::Open(const SourceOptions& source,
                                                         Instant deadline) {
  ETL_ASSIGN_OR_RETURN(std::unique_ptr<PgConnection> connection,
                       PgConnection::Connect(source, PgConnection::Mode::kReplication, deadline));
  ETL_RETURN_IF_ERROR(
      connection->Query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", deadline).status());
  const char* snapshot =
      connection->server_version() >= 150000 ? "(SNAPSHOT 'use')" : "USE_SNAPSHOT";
  ETL_ASSIGN_OR_RETURN(
      const PgResult slot,
      connection->Query(fmt::format("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput {}",
                                    QuoteIdentifier(TemporarySlotName()), snapshot),
                        deadline));
  ETL_RETURN_IF_ERROR(StatementStatus(slot, "create a temporary slot"));
  const Lsn position = slot.LsnAt(0, 1);
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

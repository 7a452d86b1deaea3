#include "postgres/slot_creation.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "base/log.h"

namespace etl {
namespace {

// The transaction number that is given out next, without its epoch.
Result<uint32_t> NextTransaction(PgConnection& connection, Instant deadline) {
  ETL_ASSIGN_OR_RETURN(
      const PgResult row,
      connection.Query("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint & 4294967295",
                       deadline));
  // The first three numbers are no transactions; age() knows no order for them.
  return std::max(row.Oid(0, 0), 3u);
}

// A row of the system catalog that decoding looks at, written by transaction `first` or later:
// where it is, or nothing. Temporary tables are not in the WAL. Of a row that was deleted nothing
// is left to be seen; that it is still believed in does no harm, for no change refers to it.
Result<std::string> SchemaChangeSince(PgConnection& connection, uint32_t first, Instant deadline) {
  const auto part = [&](const char* catalog, const char* space) {
    return fmt::format(
        "SELECT '{0}' AS place FROM pg_catalog.{0} t{1} WHERE age(t.xmin) <= age('{2}'::xid)",
        catalog, space, first);
  };
  const std::string lasting = " AND n.nspname !~ '^pg_(toast_)?temp_'";
  const std::string sql =
      "SELECT place FROM (" +
      part("pg_class", " JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace") + lasting +
      " UNION ALL " +
      part("pg_attribute",
           " JOIN pg_catalog.pg_class c ON c.oid = t.attrelid JOIN pg_catalog.pg_namespace n ON "
           "n.oid = c.relnamespace") +
      lasting + " UNION ALL " +
      part("pg_index",
           " JOIN pg_catalog.pg_class c ON c.oid = t.indexrelid JOIN pg_catalog.pg_namespace n ON "
           "n.oid = c.relnamespace") +
      lasting + " UNION ALL " +
      part("pg_type", " JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace") + lasting +
      " UNION ALL " + part("pg_namespace", "") + " AND t.nspname !~ '^pg_(toast_)?temp_'" +
      " UNION ALL " + part("pg_enum", "") + " UNION ALL " + part("pg_range", "") + " UNION ALL " +
      part("pg_inherits", "") + " UNION ALL " + part("pg_proc", "") + " UNION ALL " +
      part("pg_publication", "") + " UNION ALL " + part("pg_publication_rel", "") +
      (connection.server_version() >= 150000 ? " UNION ALL " + part("pg_publication_namespace", "")
                                             : "") +
      ") found LIMIT 1";
  ETL_ASSIGN_OR_RETURN(const PgResult row, connection.Query(sql, deadline));
  return row.rows() == 0 ? std::string() : row.String(0, 0);
}

}  // namespace

Status CreateTemporarySlot(PgConnection& connection, const std::string& name, Instant deadline,
                           const std::function<void()>& waiting) {
  // The old keyword is understood by every version; nothing exported, so nothing holds back vacuum.
  const std::string create =
      fmt::format("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT",
                  QuoteIdentifier(name));
  while (true) {
    ETL_ASSIGN_OR_RETURN(const uint32_t first, NextTransaction(connection, deadline));
    ETL_RETURN_IF_ERROR(connection.Query(create, deadline, waiting).status());
    ETL_ASSIGN_OR_RETURN(const std::string place, SchemaChangeSince(connection, first, deadline));
    if (place.empty()) return Status::OK();
    ETL_RETURN_IF_ERROR(
        connection.Query("DROP_REPLICATION_SLOT " + QuoteIdentifier(name), deadline).status());
    LogInfo("the schema changed while a slot was created: it is created again",
            {{"slot", name}, {"seen_in", place}});
    if (SystemClock().Now() < deadline) continue;
    return MakeError(ErrorKind::kTransient,
                     ErrorParts{.code = "ETL-S209",
                                .what = "create slot \"" + name + "\": gave up",
                                .why = "the schema was changed during every attempt, last in " +
                                       place + "; PostgreSQL would decode what follows wrongly",
                                .safe = "nothing was left behind",
                                .remedy = "it is tried again; pause CREATE, ALTER, TRUNCATE and "
                                          "the like for a moment, or end long transactions"});
  }
}

Status LaterMayWork(const Status& failed) {
  ErrorParts parts = PartsOf(failed);
  if (parts.code != "ETL-S107") return failed;
  return MakeError(ErrorKind::kBusy, std::move(parts));
}

}  // namespace etl

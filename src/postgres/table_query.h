#pragma once

#include <string>
#include <vector>

#include "postgres/connection.h"
#include "postgres/system_catalog.h"

namespace etl {

/// The statements of one look at a publication's tables, for one Send: a read-only transaction with
/// one snapshot. W is read last, so that everything seen happened before it.
std::string TablesSql(const std::string& publication, int server_version);
/// The same of tables that are not published yet.
std::string TablesSql(const std::vector<TableId>& tables);
/// What their results say, in order.
Result<TablesAnswer> ReadTables(const std::vector<PgResult>& results);

/// SQL expressions: the insert position (what a snapshot taken before may show is below it), and
/// where the server stands for others to reach (rule 9.1). Both work on a standby.
inline constexpr std::string_view kInsertPositionSql =
    "CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), "
    "pg_last_wal_replay_lsn()) "
    "ELSE pg_current_wal_insert_lsn() END";
inline constexpr std::string_view kReachablePositionSql =
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() "
    "END";
inline constexpr std::string_view kFlushPositionSql =
    "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() "
    "END";
inline constexpr std::string_view kSegmentSizeSql =
    "pg_size_bytes(current_setting('wal_segment_size'))";

/// SQL expression: what the file node is to a table, for all leaves of a partitioned one: another
/// number where one came, went or has another file node.
std::string LeavesFileNodeSql(TableId root);

/// Asks and waits; for setup and checks.
Result<TablesAnswer> LoadTables(PgConnection& connection, const std::string& publication,
                                Instant deadline);
Result<TablesAnswer> LoadTables(PgConnection& connection, const std::vector<TableId>& tables,
                                Instant deadline);

}  // namespace etl

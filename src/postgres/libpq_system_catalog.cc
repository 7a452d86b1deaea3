#include "postgres/libpq_system_catalog.h"

#include <algorithm>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "postgres/table_query.h"
#include "postgres/wal_position.h"

namespace etl {
namespace {

// A range is read in a few seconds even if its rows are large: 256 MiB.
constexpr int64_t kMaxChunkBlocks = 32768;
constexpr std::string_view kMessagePrefix = "etl_stream";

template <typename... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <typename... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

std::string LockHoldersSql(const LockHoldersQuery& query) {
  std::vector<uint32_t> oids;
  for (TableId table : query.tables) oids.push_back(table.oid);
  // A prepared transaction holds locks without a process. Descriptions show no query text.
  return fmt::format(
      "WITH RECURSIVE t(oid) AS (SELECT unnest(ARRAY[{}]::oid[]) UNION SELECT h.inhrelid FROM t "
      "JOIN pg_inherits h ON h.inhparent = t.oid) "
      "SELECT DISTINCT coalesce(l.pid::text, 'prepared') || ' ' || l.virtualtransaction, CASE WHEN "
      "l.pid IS NULL "
      "THEN 'a prepared transaction' ELSE 'pid ' || l.pid || ' (' || "
      "coalesce(nullif(a.application_name, ''), "
      "a.backend_type, '?') || coalesce(', since ' || date_trunc('second', now() - "
      "a.xact_start)::text, '') || ')' END "
      "FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'relation' "
      "AND l.granted "
      "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
      "AND l.relation IN (SELECT oid FROM t) AND l.mode IN ('RowExclusiveLock', "
      "'ShareRowExclusiveLock', "
      "'ExclusiveLock', 'AccessExclusiveLock')",
      fmt::join(oids, ","));
}

std::string ChunkPlanSql(const ChunkPlanQuery& query) {
  // Rows per block: what statistics say, else from the columns' widths.
  return fmt::format(
      "WITH RECURSIVE tree(relid) AS (SELECT {0}::oid UNION ALL SELECT h.inhrelid FROM tree t "
      "JOIN pg_class c ON c.oid = t.relid AND c.relkind = 'p' JOIN pg_inherits h ON h.inhparent = "
      "t.relid) "
      "SELECT c.oid, n.nspname, c.relname, c.relfilenode, "
      "coalesce(pg_relation_size(c.oid, 'main') / current_setting('block_size')::bigint, 0), "
      "CASE WHEN c.reltuples > 0 AND c.relpages > 0 THEN c.reltuples / c.relpages ELSE 8100.0 / "
      "(SELECT 28 + "
      "coalesce(sum(CASE WHEN a.attlen > 0 THEN a.attlen ELSE 32 END), 0) FROM pg_attribute a "
      "WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) END, coalesce(m.amname = "
      "'heap', false), coalesce(pg_table_size(c.oid), 0), has_table_privilege(c.oid, 'SELECT') AND "
      "has_schema_privilege(n.oid, 'USAGE'), root.schema, root.name, root.node "
      "FROM (SELECT rn.nspname AS schema, rc.relname AS name, {1} AS node FROM pg_class rc JOIN "
      "pg_namespace rn ON rn.oid = rc.relnamespace WHERE rc.oid = {0}) root, tree t JOIN pg_class "
      "c ON c.oid = t.relid AND c.relkind = 'r' "
      "JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_am m ON m.oid = c.relam ORDER BY "
      "c.oid",
      query.table.oid, LeavesFileNodeSql(query.table));
}

CatalogAnswer ReadLockHolders(const PgResult& rows) {
  LockHoldersAnswer answer;
  for (int i = 0; i < rows.rows(); ++i) {
    answer.holders.push_back({.id = rows.String(i, 0), .description = rows.String(i, 1)});
  }
  return answer;
}

CatalogAnswer ReadChunkPlan(const ChunkPlanQuery& query, const PgResult& rows) {
  std::vector<LeafSize> leaves;
  LeafSize root{.id = query.table};
  bool readable = true;
  for (int i = 0; i < rows.rows(); ++i) {
    // A table is its own leaf.
    readable = readable && (rows.Bool(i, 8) || rows.Oid(i, 0) == query.table.oid);
    root.schema = rows.String(i, 9);
    root.name = rows.String(i, 10);
    root.file_node = rows.Oid(i, 11);
    leaves.push_back({.id = {rows.Oid(i, 0)},
                      .schema = rows.String(i, 1),
                      .name = rows.String(i, 2),
                      .file_node = rows.Oid(i, 3),
                      .blocks = rows.Int(i, 4),
                      .rows_per_block = rows.Double(i, 5),
                      .bytes = rows.Int(i, 7),
                      .ranges = rows.Bool(i, 6)});
  }
  return ChunkPlanAnswer{
      .table = query.table,
      .chunks = readable ? PlanChunks(leaves, query.chunk_rows, query.chunk_bytes)
                         : PlanRootChunks(root, leaves, query.chunk_rows, query.chunk_bytes)};
}

CatalogAnswer ReadRunning(const PgResult& rows) {
  RunningXidsAnswer answer;
  for (int i = 0; i < rows.rows(); ++i) answer.running.push_back(rows.Oid(i, 0));
  return answer;
}

CatalogAnswer ReadPositions(const PgResult& rows) {
  return PositionsAnswer{
      .insert = NormaliseInsertLsn(rows.LsnAt(0, 0), static_cast<uint64_t>(rows.Int(0, 2))),
      .flush = rows.LsnAt(0, 1),
      .retained_bytes = rows.Null(0, 3) ? -1 : std::max<int64_t>(0, rows.Int(0, 3))};
}

}  // namespace

std::vector<Chunk> PlanChunks(const std::vector<LeafSize>& leaves, int64_t chunk_rows,
                              int64_t chunk_bytes) {
  std::vector<Chunk> chunks;
  for (const LeafSize& leaf : leaves) {
    const double per_block = std::max(leaf.rows_per_block, 0.01);
    int64_t step =
        static_cast<int64_t>(static_cast<double>(std::max<int64_t>(chunk_rows, 1)) / per_block);
    if (leaf.bytes > 0 && leaf.blocks > 0)
      step = std::min(step, chunk_bytes / std::max<int64_t>(leaf.bytes / leaf.blocks, 1));
    step = std::clamp<int64_t>(step, 1, kMaxChunkBlocks);
    int64_t first = 0;
    do {
      // A short rest joins the last range.
      const bool last = !leaf.ranges || first + step + step / 4 >= leaf.blocks;
      const int64_t end = last ? std::max(leaf.blocks, first) : first + step;
      Chunk chunk{
          .number = static_cast<uint32_t>(chunks.size()),
          .leaf = leaf.id,
          .leaf_schema = leaf.schema,
          .leaf_name = leaf.name,
          .file_node = leaf.file_node,
          .first_block = static_cast<uint32_t>(first),
          .end_block = std::nullopt,
          .rows_estimate = static_cast<int64_t>(static_cast<double>(end - first) * per_block)};
      if (!last) chunk.end_block = static_cast<uint32_t>(end);
      chunks.push_back(std::move(chunk));
      first = last ? leaf.blocks : end;
    } while (first < leaf.blocks && leaf.ranges);
  }
  return chunks;
}

std::vector<Chunk> PlanRootChunks(const LeafSize& root, const std::vector<LeafSize>& leaves,
                                  int64_t chunk_rows, int64_t chunk_bytes) {
  int64_t blocks = 0;
  bool ranges = true;
  for (const LeafSize& leaf : leaves) {
    blocks = std::max(blocks, leaf.blocks);
    ranges = ranges && leaf.ranges;
  }
  std::vector<Chunk> chunks;
  int64_t first = 0;
  do {
    // What one block of each leaf that reaches so far holds: no less than those behind it.
    double rows = 0;
    double bytes = 0;
    for (const LeafSize& leaf : leaves) {
      if (leaf.blocks <= first) continue;
      rows += std::max(leaf.rows_per_block, 0.01);
      bytes += static_cast<double>(leaf.bytes) / static_cast<double>(leaf.blocks);
    }
    const double most =
        std::min(static_cast<double>(std::max<int64_t>(chunk_rows, 1)) / std::max(rows, 0.01),
                 static_cast<double>(chunk_bytes) / std::max(bytes, 1.0));
    const int64_t step =
        static_cast<int64_t>(std::clamp(most, 1.0, static_cast<double>(kMaxChunkBlocks)));
    const bool last = !ranges || first + step + step / 4 >= blocks;
    const int64_t end = last ? std::max(blocks, first) : first + step;
    Chunk chunk{.number = static_cast<uint32_t>(chunks.size()),
                .leaf = root.id,
                .leaf_schema = root.schema,
                .leaf_name = root.name,
                .file_node = root.file_node,
                .first_block = static_cast<uint32_t>(first),
                .end_block = std::nullopt,
                .rows_estimate = static_cast<int64_t>(static_cast<double>(end - first) * rows)};
    if (!last) chunk.end_block = static_cast<uint32_t>(end);
    chunks.push_back(std::move(chunk));
    first = last ? blocks : end;
  } while (first < blocks && ranges);
  return chunks;
}

Result<std::unique_ptr<LibpqSystemCatalog>> LibpqSystemCatalog::Make(const SourceOptions& source,
                                                                     SystemCatalogOptions options) {
  std::unique_ptr<LibpqSystemCatalog> catalog(new LibpqSystemCatalog(std::move(options)));
  catalog->connection_ = PgConnection::Start(source, PgConnection::Mode::kNormal);
  return catalog;
}

void LibpqSystemCatalog::Ask(CatalogQuery query) { queue_.push_back(std::move(query)); }

Result<std::optional<CatalogAnswer>> LibpqSystemCatalog::Poll(Instant /*now*/) {
  if (!connected_) {
    ETL_ASSIGN_OR_RETURN(connected_, connection_->PollConnect());
    if (!connected_) return std::nullopt;
  }
  if (queue_.empty()) return std::nullopt;
  if (!sent_) {
    results_.clear();
    ETL_RETURN_IF_ERROR(connection_->Send(SqlOf(queue_.front())));
    sent_ = true;
  }
  while (true) {
    ETL_ASSIGN_OR_RETURN(std::optional<PgResult> result, connection_->Poll());
    if (result) {
      results_.push_back(std::move(*result));
      continue;
    }
    if (connection_->busy()) return std::nullopt;
    break;
  }
  sent_ = false;
  const CatalogQuery query = std::move(queue_.front());
  queue_.pop_front();
  ETL_ASSIGN_OR_RETURN(CatalogAnswer answer, AnswerOf(query, results_));
  results_.clear();
  // The next question is on its way while this answer is looked at.
  if (!queue_.empty()) {
    ETL_RETURN_IF_ERROR(connection_->Send(SqlOf(queue_.front())));
    sent_ = true;
  }
  return std::optional<CatalogAnswer>(std::move(answer));
}

void LibpqSystemCatalog::AddPollFds(std::vector<pollfd>& fds) {
  // Without a question nothing is read: a connection that the server closed would wake us for ever.
  if (!connected_ || !queue_.empty()) connection_->AddPollFds(fds);
}

std::string LibpqSystemCatalog::SqlOf(const CatalogQuery& query) const {
  return std::visit(
      Overloaded{
          [&](const TablesQuery&) {
            return TablesSql(options_.publication, connection_->server_version());
          },
          [](const LockHoldersQuery& q) { return LockHoldersSql(q); },
          [](const ChunkPlanQuery& q) { return ChunkPlanSql(q); },
          [](const RunningXidsQuery& q) {
            return fmt::format(
                "SELECT l.transactionid FROM pg_locks l WHERE l.locktype = 'transactionid' AND "
                "l.granted "
                "AND l.mode = 'ExclusiveLock' AND l.transactionid::text::bigint = ANY "
                "(ARRAY[{}]::bigint[])",
                fmt::join(q.xids, ","));
          },
          [&](const PublishQuery& q) {
            std::string list;
            for (const auto& [schema, name] : q.tables) {
              list += (list.empty() ? "" : ", ") + QuoteTable(schema, name);
            }
            if (list.empty()) return std::string("SELECT 1");
            return "ALTER PUBLICATION " + QuoteIdentifier(options_.publication) + " ADD TABLE " +
                   list;
          },
          [](const EmitMessageQuery& q) {
            return fmt::format(
                "SELECT CASE WHEN NOT pg_is_in_recovery() THEN pg_logical_emit_message({}, '{}', "
                "'') END",
                q.transactional, kMessagePrefix);
          },
          [&](const PositionsQuery&) {
            return fmt::format(
                "SELECT {0}, {1}, {2}, (SELECT pg_wal_lsn_diff({0}, s.restart_lsn)::bigint "
                "FROM pg_replication_slots s WHERE s.slot_name = {3})",
                kReachablePositionSql, kFlushPositionSql, kSegmentSizeSql,
                QuoteLiteral(options_.slot));
          },
      },
      query);
}

Result<CatalogAnswer> LibpqSystemCatalog::AnswerOf(const CatalogQuery& query,
                                                   const std::vector<PgResult>& results) const {
  if (std::holds_alternative<TablesQuery>(query)) {
    ETL_ASSIGN_OR_RETURN(TablesAnswer answer, ReadTables(results));
    return CatalogAnswer(std::move(answer));
  }
  if (results.empty()) {
    return MakeError(ErrorKind::kTransient, "ETL-S204",
                     "the source's system catalog gave no answer");
  }
  const PgResult& rows = results.front();
  if (std::holds_alternative<EmitMessageQuery>(query)) {
    // Whoever may not write messages still reads: no reason to end anything.
    const bool allowed = SqlState(rows).empty() && rows.rows() == 1 && !rows.Null(0, 0);
    return CatalogAnswer(EmitMessageAnswer{.allowed = allowed});
  }
  if (std::holds_alternative<PublishQuery>(query) && SqlState(rows) == "42710") {
    return CatalogAnswer(PublishAnswer{});  // somebody else was quicker
  }
  ETL_RETURN_IF_ERROR(StatementStatus(rows, "ask the source's system catalog"));
  if (const auto* plan = std::get_if<ChunkPlanQuery>(&query)) return ReadChunkPlan(*plan, rows);
  if (std::holds_alternative<LockHoldersQuery>(query)) return ReadLockHolders(rows);
  if (std::holds_alternative<RunningXidsQuery>(query)) return ReadRunning(rows);
  if (std::holds_alternative<PositionsQuery>(query)) return ReadPositions(rows);
  return CatalogAnswer(PublishAnswer{});
}

}  // namespace etl

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <poll.h>

#include "base/clock.h"
#include "base/status.h"
#include "model/position.h"
#include "model/segment.h"
#include "postgres/table_facts.h"

namespace etl {

/// All tables of the publication with their facts, and W: acted on only once the stream has reached
/// it (section 7).
struct TablesQuery {};
struct TablesAnswer {
  Lsn wal_insert;  ///< W, normalised as in 9.1
  std::vector<TableFacts> tables;
  bool all_operations = true;  ///< the publication has insert, update, delete and truncate
};

/// Holders of write locks on the tables and all their descendants (C2).
struct LockHoldersQuery {
  std::vector<TableId> tables;
};
struct LockHolder {
  std::string id;           ///< pid and virtual transaction; unique for the life of the transaction
  std::string description;  ///< for status: "pid 812 (psql, since 3 min)"
};
struct LockHoldersAnswer {
  std::vector<LockHolder> holders;
};

/// The ranges of a copy (C3). One range of the whole leaf where TID ranges cannot be used.
struct ChunkPlanQuery {
  TableId table;
  int64_t chunk_rows = 100000;
  /// A chunk of large rows ends earlier: a destination may have to hold it in memory.
  int64_t chunk_bytes = 64 << 20;
};
struct ChunkPlanAnswer {
  TableId table;
  std::vector<Chunk> chunks;
};

/// Which of these transactions still hold their transactionid lock: not yet visible to a new
/// snapshot (S1).
struct RunningXidsQuery {
  std::vector<uint32_t> xids;
};
struct RunningXidsAnswer {
  std::vector<uint32_t> running;
};

/// Adds tables to the publication; only for one that the engine created.
struct PublishQuery {
  std::vector<std::pair<std::string, std::string>> tables;  ///< schema, name
};
struct PublishAnswer {};

/// pg_logical_emit_message: a heartbeat (not transactional) or the nudge of 9.3 (transactional).
struct EmitMessageQuery {
  bool transactional = false;
};
struct EmitMessageAnswer {
  bool allowed = true;  ///< false: the role may not, or a standby
};

/// Where the server stands.
struct PositionsQuery {};
struct PositionsAnswer {
  Lsn insert;  ///< normalised as in 9.1
  Lsn flush;
  int64_t retained_bytes = -1;  ///< WAL the slot holds back; -1: unknown
};

using CatalogQuery = std::variant<TablesQuery, LockHoldersQuery, ChunkPlanQuery, RunningXidsQuery,
                                  PublishQuery, EmitMessageQuery, PositionsQuery>;
using CatalogAnswer =
    std::variant<TablesAnswer, LockHoldersAnswer, ChunkPlanAnswer, RunningXidsAnswer, PublishAnswer,
                 EmitMessageAnswer, PositionsAnswer>;

/// The source's system catalog, asked without waiting: `Ask` sends or queues, a later `Poll` finds
/// the answer. Answers come in the order of the questions. Owned and called by the reader (in the
/// product: its second connection).
class SystemCatalog {
 public:
  virtual ~SystemCatalog() = default;
  virtual void Ask(CatalogQuery query) = 0;
  /// The next answer, or none yet. An error ends the pipeline's run: the connection is of no more
  /// use.
  virtual Result<std::optional<CatalogAnswer>> Poll(Instant now) = 0;
  virtual void AddPollFds(std::vector<pollfd>& fds) = 0;
};

}  // namespace etl

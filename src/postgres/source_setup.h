#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "model/position.h"
#include "postgres/connection.h"
#include "postgres/system_catalog.h"

namespace etl {

/// Which server and database this is.
struct SystemFacts {
  uint64_t system_id = 0;
  uint32_t timeline = 0;
  std::string database;
  uint32_t database_oid = 0;
  int version = 0;  ///< 150018
  bool in_recovery = false;
  Lsn flush;  ///< on a standby: replayed
  std::string encoding;
};

/// Whether a server of this version may overlook changes of a table for the rest of a session: a
/// transaction that was open when the table was published, and had changed it before, makes it
/// forget. Mended in 13.21, 14.18, 15.13, 16.9 and 17.5.
bool LosesPublishedChanges(int version);

struct TableName {
  std::string schema;
  std::string name;
  friend auto operator<=>(const TableName&, const TableName&) = default;
};

/// A table that could be published.
struct CandidateTable {
  TableName name;
  TableId id;
  char kind = 'r';         ///< r, p
  char persistence = 'p';  ///< unlogged tables are never in the stream
};

struct PublicationFacts {
  bool ours = false;  ///< created by the engine: its comment says so
  bool all_tables = false;
  bool via_root = false;
  bool inserts = true, updates = true, deletes = true, truncates = true;
  std::vector<TableName> tables;  ///< as pg_publication_tables shows them
};

struct SlotFacts {
  bool created = false;  ///< by this call
  bool logical = true;
  bool temporary = false;
  bool active = false;
  int active_pid = 0;
  std::string plugin;
  std::string database;
  std::string wal_status;
  std::string invalidation;  ///< why it is of no more use; empty: it is
  Lsn confirmed_flush;
  Lsn restart;
};

/// What a destination remembers, for CheckResume.
struct ResumePoint {
  SourceIdentity identity;
  uint32_t timeline = 0;
  Lsn position;
};

struct ResumeAnswer {
  uint32_t timeline = 0;  ///< the server's; store it if it is another than before
  /// Where our old timeline ended, if the timeline changed: chunks with H above it must be copied
  /// again.
  std::optional<Lsn> switched_at;
};

/// Prepares the source before a pipeline's stages start, and cleans up after it; also asked by
/// `check`. Owned by one thread, waits with deadlines. Holds a replication connection (a WAL
/// sender).
class SourceSetup {
 public:
  static Result<std::unique_ptr<SourceSetup>> Connect(const SourceOptions& options,
                                                      Instant deadline);

  const SystemFacts& system() const { return system_; }
  PgConnection& connection() { return *connection_; }

  Result<std::string> ReadLcMonetary(Instant deadline);
  /// All tables a user could publish; partitions only through their root.
  Result<std::vector<CandidateTable>> ListCandidateTables(Instant deadline);

  Result<std::optional<PublicationFacts>> FindPublication(const std::string& name,
                                                          Instant deadline);
  /// Makes sure that the publication exists and holds `tables` (empty: whatever it holds). Creates
  /// it, or adds to one that is ours; for another's the error tells the SQL that is missing. One
  /// that leaves out operations is refused.
  Result<PublicationFacts> EnsurePublication(const std::string& name,
                                             const std::vector<TableName>& tables,
                                             Instant deadline);
  /// Only one that is ours; another's stays and that is no error.
  Status DropPublication(const std::string& name, Instant deadline);

  Result<std::optional<SlotFacts>> FindSlot(const std::string& name, Instant deadline);
  /// Finds the slot or creates it. Creation waits for all transactions that write; who is waited
  /// for is logged, and named by the error if the deadline comes first (nothing is left behind
  /// then).
  Result<SlotFacts> EnsureSlot(const std::string& name, bool temporary, Instant deadline);
  /// No slot of that name is no error.
  Status DropSlot(const std::string& name, Instant deadline);

  /// Whether streaming may go on at the stored position (rule 2.4); kLost if not.
  Result<ResumeAnswer> CheckResume(const ResumePoint& resume, Instant deadline);

  /// Transactions and prepared transactions that hold up the creation of a slot, for people.
  Result<std::vector<std::string>> SlotCreationBlockers(Instant deadline);

 private:
  explicit SourceSetup(const SourceOptions& options) : options_(options.Clone()) {}
  Status Identify(Instant deadline);
  Status CheckTimeline(const ResumePoint& resume, ResumeAnswer* answer, Instant deadline);
  Result<SlotFacts> CreateSlot(const std::string& name, bool temporary, Instant deadline);

  SourceOptions options_;
  std::unique_ptr<PgConnection> connection_;
  SystemFacts system_;
};

/// A publication that leaves out a kind of change gives a copy that is not the source's: refused.
Status CheckOperations(const std::string& publication, bool all_operations);

/// An existing slot that this pipeline can stream from, or why not.
Status CheckSlotUsable(const std::string& name, const SlotFacts& slot, const SystemFacts& system);

/// Where timeline `old` was left, from the text of a TIMELINE_HISTORY; none: it is not an ancestor.
std::optional<Lsn> TimelineEnd(std::string_view history, uint32_t old);

}  // namespace etl

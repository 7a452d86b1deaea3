#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/status.h"
#include "destination/destination.h"
#include "destination/duckdb/duckdb_connection.h"
#include "model/checkpoint.h"

namespace etl {

/// One table of one pipeline, as the file remembers it and the destination works with it.
struct DuckDbTableState {
  TableCheckpoint checkpoint;
  bool has_target = false;  ///< the engine made `target_schema.target_name`
  std::string target_schema;
  std::string target_name;
};

/// Reads and writes the schema `_etl` of a file. Every call works in the transaction at hand of the
/// connection it is given.
class DuckDbBookkeeping {
 public:
  DuckDbBookkeeping() = default;
  DuckDbBookkeeping(std::string pipeline, Mode mode)
      : pipeline_(std::move(pipeline)), mode_(mode) {}

  /// Creates the bookkeeping of a new file, brings that of an older program up to date, and refuses
  /// that of a newer one.
  static Status Prepare(DuckDbConnection& connection);
  /// Refuses a pipeline whose tables were filled in the other mode, and stores the mode where an
  /// older program did not.
  Status CheckMode(DuckDbConnection& connection,
                   const std::map<uint32_t, DuckDbTableState>& tables) const;

  Result<Checkpoint> LoadProgress(DuckDbConnection& connection) const;
  Result<std::map<uint32_t, DuckDbTableState>> LoadTables(DuckDbConnection& connection) const;

  Status SaveHistory(DuckDbConnection& connection, const Checkpoint& checkpoint) const;
  Status SavePosition(DuckDbConnection& connection, Lsn position) const;
  Status SaveTable(DuckDbConnection& connection, const DuckDbTableState& table) const;
  /// Everything of this pipeline.
  Status DropPipeline(DuckDbConnection& connection) const;
  Status DropTable(DuckDbConnection& connection, TableId table) const;
  Status SavePlan(DuckDbConnection& connection, const DuckDbTableState& table) const;
  Status SaveChunkDone(DuckDbConnection& connection, TableId table, uint32_t generation,
                       const TableCheckpoint::DoneChunk& chunk) const;
  Status DropChunks(DuckDbConnection& connection, TableId table) const;

  /// The pipeline that made the target `schema.name`, if any did; compared without case.
  Result<std::optional<std::string>> OwnerOf(DuckDbConnection& connection,
                                             const std::string& schema, const std::string& name,
                                             TableId except) const;

  DuckDbTable Pending(const DuckDbConnection& connection, const DuckDbTableState& table) const;
  DuckDbTable Settled(const DuckDbConnection& connection, const DuckDbTableState& table) const;
  DuckDbTable Shadow(const DuckDbConnection& connection, const DuckDbTableState& table) const;
  DuckDbTable Target(const DuckDbConnection& connection, const DuckDbTableState& table) const;

 private:
  std::string Where(TableId table) const;
  Result<std::optional<Mode>> ModeOfTables(
      DuckDbConnection& connection, const std::map<uint32_t, DuckDbTableState>& tables) const;

  std::string pipeline_;
  Mode mode_ = Mode::kMirror;
};

}  // namespace etl

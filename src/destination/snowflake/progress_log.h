#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "destination/destination.h"
#include "destination/row_mapping.h"
#include "destination/snowflake/channel_spread.h"
#include "destination/snowflake/ddl_sql.h"
#include "destination/snowflake/sql_answer.h"
#include "model/checkpoint.h"

namespace etl {

/// What the log says of one table.
struct SnowflakeTableState {
  TableCheckpoint checkpoint;
  /// Name and columns of the landing table; null: it was not made. Ahead of `checkpoint.schema`
  /// where a schema change was carried out and its boundary is not stored yet.
  TableSchemaPtr landing;
  uint32_t landing_history = 0;  ///< whose rows it has
  /// Name and columns of the target, if this pipeline made one.
  TableSchemaPtr target;
  /// Not null: the landing table is on its way to this name and these columns, and the target to
  /// `altering_target`, unless that is null. Whoever finds this goes on with it first.
  TableSchemaPtr altering;
  TableSchemaPtr altering_target;
  int16_t newest_attnum = 0;       ///< of all columns that the landing table has had
  FillValues fill;                 ///< of columns that were added since the copy began
  bool again = false;              ///< append: there are rows of before the copy
  std::vector<uint32_t> attempts;  ///< of the done chunks: whose copied rows count
  /// Over how many channels the changes of this generation are spread. Only ever added to.
  std::vector<ChannelSpread> spreads;
  /// While it is copied: transactions with changes that left values out.
  std::map<Lsn, uint32_t> xids;
};

int16_t NewestAttnum(const TableSchema& schema);

/// A row of _ETL_PROGRESS to be written.
struct ProgressRecord {
  ProgressKind kind = ProgressKind::kForward;
  TableId table;
  uint32_t generation = 0;
  Lsn lsn;
  std::string body;  ///< JSON
};

/// The state of a pipeline as the sum of the rows of _ETL_PROGRESS, in order of SEQUENCE.
///
/// Table records belong to the next `forward` record, as the changes of a destination transaction
/// belong to its boundary: without it they are void. So that an interrupted run leaves nothing that
/// a later one would bring to life, every run begins with a record that says how far the log counts
/// (`keep`). Immediate records (a chunk that is done, a landing table that was altered, a fold,
/// more channels) count by themselves.
///
/// Pure; owned by the destination.
class ProgressLog {
 public:
  /// Rows of SelectSql.
  Status Load(const SqlRows& rows);

  const Checkpoint& checkpoint() const { return checkpoint_; }  ///< without its tables
  const std::map<uint32_t, SnowflakeTableState>& tables() const { return tables_; }
  uint32_t history() const { return history_; }
  uint64_t last_sequence() const { return last_; }

  /// The first record of a run, over a log that has a history.
  ProgressRecord Begin() const;
  /// `again`: every table needs a new copy.
  static ProgressRecord History(const Checkpoint& checkpoint, bool again);
  static ProgressRecord Forward(Lsn boundary);
  /// What the checkpoint says of a table; it counts with the next forward record, or at once, and
  /// then with the target.
  static ProgressRecord Table(const SnowflakeTableState& table, bool immediate);
  /// All that the rows up to here come to, as rows of which each counts at once: read behind them
  /// or without them, they come to the same. `stored`: of the newest forward record.
  static std::vector<ProgressRecord> Whole(const Checkpoint& stored,
                                           const std::vector<const SnowflakeTableState*>& tables);
  /// Landing table and target as they are now, or are on their way to be. Counts at once.
  static ProgressRecord Landing(const SnowflakeTableState& table);
  /// Of the copy of a table; counts with the next forward record.
  static ProgressRecord Xids(const SnowflakeTableState& table, Lsn boundary,
                             const std::map<Lsn, uint32_t>& xids);
  static ProgressRecord ChunkDone(const SnowflakeTableState& table,
                                  const TableCheckpoint::DoneChunk& chunk, uint32_t attempt);

  /// The last of its spreads. Counts at once; behind the record of its generation.
  static ProgressRecord Spread(const SnowflakeTableState& table);

  /// As a line of the control channel.
  static std::string Line(const std::string& pipeline, uint32_t history, uint64_t sequence,
                          UnixMicros at, const ProgressRecord& record);
  static std::string SelectSql(const SnowflakeNames& names, const std::string& pipeline);

 private:
  struct Row {
    uint64_t sequence = 0;
    ProgressRecord record;
  };
  void Apply(const ProgressRecord& record);
  void Count(uint64_t up_to);

  Checkpoint checkpoint_;
  std::map<uint32_t, SnowflakeTableState> tables_;
  std::vector<Row> waiting_;  // for the next forward record
  uint32_t history_ = 0;
  uint64_t last_ = 0;
  uint64_t last_forward_ = 0;
};

}  // namespace etl

#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "destination/snowflake/identifiers.h"
#include "model/table_schema.h"

namespace etl {

/// A table of a pipeline, as statements speak of it. A value; `names` outlives it.
struct SnowflakeTable {
  const SnowflakeNames& names;
  std::string pipeline;
  TableSchemaPtr schema;
  uint32_t generation = 1;
  /// SEQUENCE of the record that the run began with, for RunGuardSql; 0: whoever comes may change
  /// the table.
  uint64_t run = 0;
};

/// One line of the control channel, as a row of _ETL_PROGRESS. `SEQUENCE` orders the rows of a
/// pipeline and is the channel's offset token.
enum class ProgressKind : uint8_t {
  kHistory,  ///< BODY: identity, timeline, lc_monetary; LSN: first position
  kForward,  ///< LSN: F, every row below it is proven committed
  kTable,    ///< BODY: phase, schema version …; LSN: `from`
  kPlan,     ///< BODY: the chunks of a copy
  kChunk,    ///< BODY: range, attempt, rows; LSN: H
  kStop,     ///< BODY: code and reason
  kSpread,   ///< BODY: over how many channels changes are spread; LSN: from which commit on
  kXids,     ///< BODY: transactions of a table under copy that left values out; LSN: the boundary
};
std::string_view ProgressKindName(ProgressKind kind);

/// Schemas and tables that a pipeline's bookkeeping needs; repeatable.
///
/// _ETL_PROGRESS: PIPELINE, HISTORY, SEQUENCE, KIND, TABLE_OID, GENERATION, LSN (%016x), BODY
/// (JSON), AT. Rows are only added (and old ones purged).
/// _ETL_WATERMARK: PIPELINE, TABLE_OID, GENERATION, TABLE_NAME, PHASE (copying, swap, live,
/// former), APPLIED (%016x: merged up to this boundary), CLAIMED, TASK (see PutTaskSql). Changed
/// only inside merge and fold transactions, but for TASK; CLAIMED is NULL outside of them.
std::vector<std::string> BookkeepingSql(const SnowflakeNames& names);

/// All schemas and the landing table; in `mirror` the target is made by the fold. Repeatable.
std::vector<std::string> CreateSchemasSql(const SnowflakeNames& names, const TableSchema& schema);
std::string CreateLandingSql(const SnowflakeTable& table);
/// `place`: the target or its shadow.
std::string CreateTargetSql(const SnowflakeTable& table, const SnowflakeName& place);

/// Registers a generation that starts to be copied at `from`, or (phase live) a table that is
/// filled from there without a copy. Repeatable: an existing row stays.
std::string InsertWatermarkSql(const SnowflakeTable& table, Lsn from, bool live);
/// Removes the row of a generation whose copy begins anew.
std::string ForgetCopyingSql(const SnowflakeTable& table);
/// TABLE_OID, GENERATION, PHASE, APPLIED, TASK of the pipeline's tables.
std::string SelectWatermarksSql(const SnowflakeNames& names, const std::string& pipeline);
/// The newest F of a history, or NULL, for a control channel that is gone (rule 6.4).
std::string SelectForwardSql(const SnowflakeNames& names, const std::string& pipeline,
                             uint32_t history);
/// Positions at or behind `from` that have landed, for a data channel that is gone (rule 6.4).
std::string SelectLandedSql(const SnowflakeTable& table, Lsn from);
/// Removes landing rows before `applied` (rule 6.10).
std::string PurgeLandingSql(const SnowflakeTable& table, Lsn applied);
/// Removes the copied rows of earlier attempts and generations: before a new generation starts.
std::string PurgeCopiedSql(const SnowflakeTable& table);
/// Removes progress rows before `first`, not younger than `at`: those of a pipeline of the same
/// name that was begun since stay, should this come late.
std::string PurgeProgressSql(const SnowflakeNames& names, const std::string& pipeline,
                             uint64_t first, UnixMicros at);

/// Of a copy that is given up.
std::string DropShadowSql(const SnowflakeTable& table);
/// Everything of a table that is the engine's own; the target stays.
std::vector<std::string> ForgetTableSql(const SnowflakeTable& table);
/// The bookkeeping rows of a pipeline.
std::vector<std::string> ForgetPipelineSql(const SnowflakeNames& names,
                                           const std::string& pipeline);

}  // namespace etl

#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "catalog/catalog.h"
#include "config/config.h"
#include "destination/duckdb/duckdb_file.h"
#include "pipeline/pipeline.h"
#include "pipeline/supervisor.h"
#include "runtime/byte_budget.h"

namespace etl {

/// What all pipelines of the process share: the memory budget and the open files. Made by the
/// command, outlives them.
class ProcessResources {
 public:
  explicit ProcessResources(const Config& config);
  ByteBudget* budget() { return &budget_; }
  /// `limits.spill`, for transactions that are open at the source.
  ByteBudget* disk() { return &disk_; }
  const LimitsConfig& limits() const { return limits_; }
  /// Of rows that are on their way to Snowflake, for each of its pipelines.
  int64_t snowflake_bytes() const { return snowflake_bytes_; }
  /// The file of a DuckDB destination; the same object for the same path.
  std::shared_ptr<DuckDbFile> FileOf(const DestinationConfig& destination);

 private:
  ProcessResources(const Config& config, int snowflake_pipelines);

  ByteBudget budget_;
  ByteBudget disk_;
  LimitsConfig limits_;
  int64_t duckdb_memory_;
  int64_t snowflake_bytes_;
  DuckDbFiles files_;
};

/// A pipeline's definition, ready to be started. Secrets are resolved now, and again at each start
/// of the pipeline. `resources` outlives the result.
Result<PipelineSpec> MakePipelineSpec(const Config& config, const std::string& pipeline,
                                      ProcessResources* resources);
/// What was counted before goes on: from the pipeline's status as it was last seen.
Status TakeUpFigures(Catalog& catalog, PipelineSpec* spec);
Result<SourceOptions> MakeSourceOptions(const Config& config, const PipelineConfig& pipeline);

}  // namespace etl

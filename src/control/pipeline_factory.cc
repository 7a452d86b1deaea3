#include "control/pipeline_factory.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "destination/duckdb/duckdb_destination.h"

namespace etl {
namespace {

// DuckDB's own limit is a part of limits.memory; the rest is for batches on their way.
int64_t DuckDbShare(int64_t memory) { return std::max<int64_t>(memory / 2, int64_t{64} << 20); }

// The writer's own thread does the work. With a second one DuckDB spins wherever it waits for it,
// which takes the time that the reader and a server on the same machine need.
constexpr int kDuckDbThreads = 1;

// More makes fewer of the transactions go to disk, but each write then stops the reader for longer.
constexpr int64_t kOpenTransactionsMemory = int64_t{64} << 20;

ColumnRules RulesOf(const ColumnRulesConfig& config) {
  return {.exclude = config.exclude, .hash = config.hash};
}

}  // namespace

ProcessResources::ProcessResources(const Config& config)
    : budget_(std::max<int64_t>(config.limits.memory - DuckDbShare(config.limits.memory),
                                int64_t{16} << 20)),
      disk_(config.limits.spill),
      limits_(config.limits) {
  int64_t files = 0;
  for (const auto& [name, destination] : config.destinations) {
    if (destination.snowflake.has_value()) continue;
    for (const auto& [pipeline, definition] : config.pipelines) {
      if (definition.destination == name) {
        ++files;
        break;
      }
    }
  }
  duckdb_memory_ = DuckDbShare(config.limits.memory) / std::max<int64_t>(files, 1);
}

std::shared_ptr<DuckDbFile> ProcessResources::FileOf(const DestinationConfig& destination) {
  return files_.Get({.path = destination.path,
                     .release = destination.release,
                     .memory_bytes = duckdb_memory_,
                     .threads = kDuckDbThreads,
                     .spill_dir = limits_.spill_dir,
                     .spill_bytes = limits_.spill});
}

Result<SourceOptions> MakeSourceOptions(const Config& config, const PipelineConfig& pipeline) {
  const SourceConfig& source = config.sources.at(pipeline.source);
  SourceOptions options;
  options.conninfo = source.url;
  ETL_ASSIGN_OR_RETURN(options.password, source.password.Resolve());
  options.application_name = "etl-stream " + pipeline.name;
  return options;
}

Result<PipelineSpec> MakePipelineSpec(const Config& config, const std::string& name,
                                      ProcessResources* resources) {
  const PipelineConfig& pipeline = config.pipelines.at(name);
  const DestinationConfig& destination = config.destinations.at(pipeline.destination);
  if (destination.snowflake.has_value()) {
    return MakeError(ErrorKind::kConfig, "ETL-C040",
                     fmt::format("pipeline {}: this version does not carry out pipelines into "
                                 "Snowflake yet",
                                 name),
                     "use a destination of type: duckdb");
  }
  PipelineSpec spec;
  spec.name = name;
  ETL_ASSIGN_OR_RETURN(spec.source, MakeSourceOptions(config, pipeline));
  spec.read_password = [reference = config.sources.at(pipeline.source).password] {
    return reference.Resolve();
  };
  spec.publication = pipeline.publication;
  spec.slot = pipeline.slot;
  spec.tables_given = !pipeline.tables.empty();
  spec.parallelism = pipeline.snapshot_parallelism;
  spec.shutdown = config.limits.shutdown;

  ReaderOptions& reader = spec.reader;
  reader.pipeline = name;
  reader.mode = pipeline.mode == PipelineMode::kAppend ? Mode::kAppend : Mode::kMirror;
  reader.snapshot = pipeline.snapshot_enabled;
  reader.max_rows = pipeline.batch_max_rows;
  reader.max_bytes = std::min(pipeline.batch_max_bytes,
                              std::max<int64_t>(resources->budget()->limit() / 6, 1 << 20));
  reader.max_delay = pipeline.batch_max_delay;
  reader.open_transactions = {
      .memory_bytes = std::min(resources->budget()->limit() / 4, kOpenTransactionsMemory),
      .spill_dir = resources->limits().spill_dir,
      .disk = resources->disk()};
  reader.chunk_rows = pipeline.snapshot_chunk_rows;
  reader.selected = [filter = pipeline.tables](const std::string& schema,
                                               const std::string& table) {
    return filter.Selects(schema, table);
  };
  for (const auto& [table, rules] : pipeline.columns) reader.rules[table] = RulesOf(rules);
  reader.batch.on_unrepresentable = pipeline.on_unrepresentable == UnrepresentablePolicy::kNull
                                        ? OnUnrepresentable::kNull
                                        : OnUnrepresentable::kError;
  if (!pipeline.hash_key.empty()) {
    ETL_ASSIGN_OR_RETURN(const Secret key, pipeline.hash_key.Resolve());
    reader.batch.hash_key = std::string(key.Reveal());
  }
  spec.make_destination =
      [file = resources->FileOf(destination)]() -> Result<std::unique_ptr<Destination>> {
    return std::make_unique<DuckDbDestination>(file, SystemClock());
  };
  return spec;
}

Status TakeUpFigures(Catalog& catalog, PipelineSpec* spec) {
  ETL_ASSIGN_OR_RETURN(const std::optional<PipelineStatus> seen, catalog.GetStatus(spec->name));
  if (!seen) return Status::OK();
  for (const TableStatus& table : seen->tables) {
    if (table.id.oid != 0) spec->reader.nulled[table.id] = table.nulled;
  }
  return Status::OK();
}

}  // namespace etl

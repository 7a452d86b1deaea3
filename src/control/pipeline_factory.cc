#include "control/pipeline_factory.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "config/memory_parts.h"
#include "destination/duckdb/duckdb_destination.h"
#include "destination/snowflake/key.h"
#include "destination/snowflake/snowflake_destination.h"

namespace etl {
namespace {

// The writer's own thread does the work. With a second one DuckDB spins wherever it waits for it,
// which takes the time that the reader and a server on the same machine need.
constexpr int kDuckDbThreads = 1;

// More makes fewer of the transactions go to disk, but each write then stops the reader for longer.
constexpr int64_t kOpenTransactionsMemory = int64_t{64} << 20;

// Bodies that the service has not committed: enough for a few seconds of it, and for two of the
// largest.
constexpr int64_t kSnowflakeBytesMin = int64_t{8} << 20;
constexpr int64_t kSnowflakeBytesMax = int64_t{64} << 20;
int64_t SnowflakeShare(int64_t memory) { return memory / 4; }

int CountSnowflakePipelines(const Config& config) {
  return static_cast<int>(
      std::count_if(config.pipelines.begin(), config.pipelines.end(), [&](const auto& pipeline) {
        return config.destinations.at(pipeline.second.destination).snowflake.has_value();
      }));
}

// What the destinations do not take.
int64_t BatchShare(const Config& config, int snowflake_pipelines) {
  const int64_t memory = config.limits.memory;
  const int64_t taken = CountDuckDbFiles(config) * DuckDbMemory(config) +
                        (snowflake_pipelines > 0 ? SnowflakeShare(memory) : 0);
  return std::max<int64_t>(memory - taken, int64_t{16} << 20);
}

// The key is looked at now, so that one that cannot be used stops a command before it touches
// anything, and read again at each start and whenever its file changes.
Status UseSnowflake(const DestinationConfig& destination, int64_t bytes_max, PipelineSpec* spec) {
  SnowflakeOptions options;
  options.config = *destination.snowflake;
  options.key = [config = options.config]() -> Result<KeyOrigin> {
    return KeyFromConfig(config.private_key, config.private_key_passphrase);
  };
  options.on_unrepresentable = spec->reader.batch.on_unrepresentable;
  options.bytes_max = bytes_max;
  ETL_RETURN_IF_ERROR(MakeSnowflakeAccount(options.config.account, options.config.url).status());
  ETL_ASSIGN_OR_RETURN(const KeyOrigin key, options.key());
  ETL_RETURN_IF_ERROR(key.read().status());
  spec->make_destination = [options =
                                std::move(options)]() -> Result<std::unique_ptr<Destination>> {
    return std::make_unique<SnowflakeDestination>(options, SystemClock());
  };
  return Status::OK();
}

ColumnRules RulesOf(const ColumnRulesConfig& config) {
  return {.exclude = config.exclude, .hash = config.hash};
}

}  // namespace

ProcessResources::ProcessResources(const Config& config)
    : ProcessResources(config, CountSnowflakePipelines(config)) {}

ProcessResources::ProcessResources(const Config& config, int snowflake_pipelines)
    : budget_(BatchShare(config, snowflake_pipelines)),
      disk_(config.limits.spill),
      limits_(config.limits),
      duckdb_memory_(DuckDbMemory(config)),
      snowflake_bytes_(
          std::clamp(SnowflakeShare(config.limits.memory) / std::max(snowflake_pipelines, 1),
                     kSnowflakeBytesMin, kSnowflakeBytesMax)) {}

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
  if (destination.snowflake.has_value()) {
    ETL_RETURN_IF_ERROR(WithContext(UseSnowflake(destination, resources->snowflake_bytes(), &spec),
                                    "pipeline " + name));
    return spec;
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

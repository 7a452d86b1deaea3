#include "control/stored_side.h"

#include <utility>

#include <arrow/record_batch.h>

#include "destination/duckdb/duckdb_latest.h"
#include "destination/duckdb/duckdb_read.h"
#include "destination/snowflake/key.h"
#include "destination/snowflake/snowflake_read.h"

namespace etl {
namespace {

// A read transaction of the file: the pipeline goes on beside it.
class DuckDbSide : public StoredSide {
 public:
  DuckDbSide(std::unique_ptr<DuckDbSnapshot> snapshot, std::string pipeline, Mode mode)
      : snapshot_(std::move(snapshot)), pipeline_(std::move(pipeline)), mode_(mode) {}

  Result<Reader> ReaderOf(const TableSchemaPtr& schema) override {
    std::shared_ptr<DuckDbLatestRows> latest;
    if (mode_ == Mode::kAppend) {
      ETL_ASSIGN_OR_RETURN(latest,
                           DuckDbLatestRows::Find(snapshot_->connection(), pipeline_, schema));
    }
    return Reader([this, latest, schema](const OnBatch& on_batch) -> Status {
      if (latest != nullptr) return latest->Read(on_batch);
      return ReadDuckDbTable(snapshot_->connection(), *schema, on_batch);
    });
  }

 private:
  const std::unique_ptr<DuckDbSnapshot> snapshot_;
  const std::string pipeline_;
  const Mode mode_;
};

// Each statement shows the tables as they are at its moment.
class SnowflakeSide : public StoredSide {
 public:
  explicit SnowflakeSide(std::unique_ptr<SnowflakeReader> reader) : reader_(std::move(reader)) {}

  bool needs_hold() const override { return true; }
  Result<Reader> ReaderOf(const TableSchemaPtr& schema) override {
    return Reader(
        [this, schema](const OnBatch& on_batch) { return reader_->Read(schema, on_batch); });
  }
  Result<std::shared_ptr<arrow::RecordBatch>> AsHeld(const TableSchema& schema,
                                                     std::shared_ptr<arrow::RecordBatch> rows,
                                                     int64_t* nulled) override {
    return AsSnowflakeHolds(schema, std::move(rows), nulled);
  }

 private:
  const std::unique_ptr<SnowflakeReader> reader_;
};

}  // namespace

Result<std::unique_ptr<StoredSide>> StoredSide::Open(const Config& config, const PipelineSpec& spec,
                                                     ProcessResources* resources,
                                                     const Clock& clock,
                                                     const std::atomic<bool>* stop) {
  const DestinationConfig& destination =
      config.destinations.at(config.pipelines.at(spec.name).destination);
  if (!destination.snowflake.has_value()) {
    ETL_ASSIGN_OR_RETURN(auto snapshot, DuckDbSnapshot::Open(resources->FileOf(destination)));
    return std::make_unique<DuckDbSide>(std::move(snapshot), spec.name, spec.reader.mode);
  }
  const SnowflakeConfig& account = *destination.snowflake;
  ETL_ASSIGN_OR_RETURN(
      auto reader, SnowflakeReader::Open(
                       {.config = account,
                        .pipeline = spec.name,
                        .append = spec.reader.mode == Mode::kAppend,
                        .stop = stop},
                       KeyFromConfig(account.private_key, account.private_key_passphrase), clock));
  return std::make_unique<SnowflakeSide>(std::move(reader));
}

}  // namespace etl

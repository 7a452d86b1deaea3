#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "config/secret_ref.h"
#include "config/table_filter.h"

namespace etl {

/// Everything `etl-stream.yaml` says, with its defaults. Made once by LoadConfig, then immutable
/// and shared. Parts are compared with ==, so that a reload restarts only what changed.

struct LimitsConfig {
  int64_t memory = int64_t{512} << 20;  ///< bytes, for all data of the process
  int64_t spill = int64_t{10} << 30;    ///< bytes
  std::string spill_dir = "/var/tmp";
  Duration shutdown = std::chrono::seconds(5);
  friend bool operator==(const LimitsConfig&, const LimitsConfig&) = default;
};

/// type: postgres
struct SourceConfig {
  std::string name;
  std::string url;     ///< a libpq URL or keyword string; never holds a password
  SecretRef password;  ///< from `password`, or taken out of the url
  friend bool operator==(const SourceConfig&, const SourceConfig&) = default;
};

/// When requests to a service that fails are held back.
struct BreakerConfig {
  int failures = 5;
  Duration within = std::chrono::seconds(60);
  Duration open = std::chrono::seconds(30);
  int successes = 2;
  friend bool operator==(const BreakerConfig&, const BreakerConfig&) = default;
};

enum class MergeBy : uint8_t { kEngine, kTask };
enum class IdentifierCase : uint8_t { kUpper, kPreserve };

/// type: snowflake
struct SnowflakeConfig {
  std::string account;
  std::string url;  ///< empty: made from the account
  std::string user;
  std::string role;
  std::string warehouse;
  std::string database;
  std::string schema;  ///< may hold {schema}, the source's
  std::string landing_schema;
  SecretRef private_key;
  SecretRef private_key_passphrase;
  MergeBy merge_by = MergeBy::kEngine;
  Duration merge_every = std::chrono::seconds(60);
  BreakerConfig breaker;
  IdentifierCase identifiers = IdentifierCase::kUpper;
  friend bool operator==(const SnowflakeConfig&, const SnowflakeConfig&) = default;
};

/// type: duckdb, or what `snowflake` holds
struct DestinationConfig {
  std::string name;
  std::string path;  ///< absolute, or relative to the working directory
  std::optional<Duration> release = std::chrono::seconds(1);  ///< none: off
  std::optional<SnowflakeConfig> snowflake;  ///< type: snowflake; the two above mean nothing then
  friend bool operator==(const DestinationConfig&, const DestinationConfig&) = default;
};

enum class PipelineMode : uint8_t { kMirror, kAppend };
enum class UnrepresentablePolicy : uint8_t { kError, kNull };

/// `columns:` of one table.
struct ColumnRulesConfig {
  std::vector<std::string> exclude;
  std::vector<std::string> hash;
  friend bool operator==(const ColumnRulesConfig&, const ColumnRulesConfig&) = default;
};

struct PipelineConfig {
  std::string name;
  std::string source;
  std::string destination;
  PipelineMode mode = PipelineMode::kMirror;
  TableFilter tables;              ///< empty: what the publication holds
  std::string publication;         ///< etl_<name> unless written
  bool publication_named = false;  ///< written in the file
  std::string slot;                ///< etl_<name> unless written
  bool snapshot_enabled = true;
  int snapshot_parallelism = 2;
  int64_t snapshot_chunk_rows = 100000;
  int64_t batch_max_rows = 100000;
  int64_t batch_max_bytes = int64_t{16} << 20;
  Duration batch_max_delay = std::chrono::seconds(1);
  Duration retry_max_delay = std::chrono::minutes(1);
  Duration retry_give_up = std::chrono::minutes(2);
  std::map<std::string, ColumnRulesConfig> columns;  ///< by schema.table
  SecretRef hash_key;
  UnrepresentablePolicy on_unrepresentable = UnrepresentablePolicy::kError;
  bool enabled = true;
  friend bool operator==(const PipelineConfig&, const PipelineConfig&) = default;
};

struct Config {
  std::string file;     ///< as it was given
  std::string catalog;  ///< path of the SQLite file
  LimitsConfig limits;
  std::map<std::string, SourceConfig> sources;
  std::map<std::string, DestinationConfig> destinations;
  std::map<std::string, PipelineConfig> pipelines;
};

}  // namespace etl

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "model/checkpoint.h"
#include "model/position.h"

namespace etl {

/// One table as `status` shows it.
struct TableStatus {
  std::string name;  ///< schema.table
  TablePhase phase = TablePhase::kWaiting;
  int64_t rows = 0;         ///< rows copied so far, or stored at the last fold
  int64_t rows_total = 0;   ///< estimate, while copying
  int64_t changes = 0;      ///< changes handed to the destination since the pipeline started
  int64_t nulled = 0;       ///< values that became NULL (on_unrepresentable) since it started
  std::string error;        ///< why it is stopped, or what its copy waits for
  TableId id;               ///< at the source; none: an older program wrote this
  bool rules = false;       ///< what is stored lacks columns, or has hashes, as `columns` said
  int64_t rows_merged = 0;  ///< its part of DestinationUse::rows_merged
};

enum class PipelinePhase : uint8_t { kCopying, kRunning, kRetrying, kPaused, kStopped };
std::string_view PipelinePhaseName(PipelinePhase phase);

/// What a destination that is paid by use was asked for since the pipeline's last start.
struct DestinationUse {
  int64_t bytes_sent = 0;  ///< as sent: rows compressed, records of progress as they are
  int64_t statements = 0;
  int64_t merges = 0;       ///< that this program ran
  int64_t rows_merged = 0;  ///< changes that those took
};

/// One pipeline as `status` shows it: a value, published by its reader a few times a second.
struct PipelineStatus {
  std::string name;
  PipelinePhase phase = PipelinePhase::kStopped;
  Lsn position;         ///< stored at the destination
  Lsn applied;          ///< what its readers see
  Lsn source_position;  ///< where the source stands, as far as known
  int64_t lag_bytes = 0;
  std::optional<double> lag_seconds;  ///< 0 when caught up; none: unknown
  std::string error;
  std::vector<TableStatus> tables;
  int64_t changes = 0;          ///< handed to the destination since the start
  int64_t retained_bytes = -1;  ///< WAL the slot holds back; -1: unknown
  int64_t latency_p50_us = -1;  ///< commit received → stored at the destination; -1: no sample
  int64_t latency_p99_us = -1;
  std::optional<DestinationUse> used;  ///< none: the destination does not count
  UnixMicros at = 0;                   ///< when this was seen; 0: never
};

/// The contract's JSON of one pipeline, one line.
std::string StatusToJson(const PipelineStatus& status);
Result<PipelineStatus> StatusFromJson(std::string_view json);

}  // namespace etl

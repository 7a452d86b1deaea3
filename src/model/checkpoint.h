#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/position.h"
#include "model/segment.h"
#include "model/table_schema.h"

namespace etl {

/// Phases of a table, as `status` shows them.
enum class TablePhase : uint8_t { kWaiting, kCopying, kLive, kStopped };
std::string_view TablePhaseName(TablePhase phase);

/// What a destination remembers of one table.
struct TableCheckpoint {
  TableSchemaPtr schema;  ///< newest stored version
  uint32_t generation = 1;
  TablePhase phase = TablePhase::kWaiting;
  Lsn from;                   ///< C1, while copying
  bool keep_target = false;   ///< CopyStart::keep_target, while copying
  bool planned = false;       ///< CopyPlan was stored
  std::vector<Chunk> chunks;  ///< the plan
  struct DoneChunk {
    uint32_t number = 0;
    Lsn high;
    int64_t rows = 0;
  };
  std::vector<DoneChunk> done;
  std::string stop_code;  ///< phase kStopped
  std::string stop_reason;
  int64_t rows = 0;         ///< rows copied or folded so far, for status
  std::string fingerprint;  ///< the last TableFingerprint
};

/// What a destination remembers of one pipeline: the only truth about progress (architecture,
/// decision 2).
struct Checkpoint {
  std::optional<SourceIdentity> identity;  ///< none: nothing was ever stored
  uint32_t timeline = 0;
  Lsn position;             ///< P: a boundary; every transaction with commit LSN < P is stored
  std::string lc_monetary;  ///< pinned in every session (rule 8.1)
  std::vector<TableCheckpoint> tables;
};

}  // namespace etl

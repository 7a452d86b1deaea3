#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/clock.h"
#include "postgres/preflight.h"

namespace etl {

// What RunSourcePreflight makes of facts about the server as a whole. Pure.

/// S24: whether the slot would outlive a failover (PostgreSQL 17 and later).
struct FailoverFacts {
  int64_t standbys = 0;       ///< physical slots
  std::optional<bool> slot;   ///< the slot exists, and is copied to standbys or not
  bool reader_waits = false;  ///< synchronized_standby_slots names somebody
};
PreflightFinding JudgeFailover(const FailoverFacts& facts, const std::string& slot);

/// S27: the server's clock, read between two looks at ours.
PreflightFinding JudgeClock(UnixMicros before, UnixMicros server, UnixMicros after);

/// S28: wal_sender_timeout as it is set, and as a session of ours leaves it; 0: none.
PreflightFinding JudgeSenderTimeout(int64_t server_ms, int64_t session_ms);

/// S29: what logical decoding had to put aside, since the slots' counters were reset.
struct DecodingFacts {
  int64_t work_mem = 0;  ///< bytes
  int64_t spilled = 0;   ///< transactions written to the server's disk …
  int64_t spilled_bytes = 0;
  int64_t streamed = 0;  ///< … or sent while they were open
  int64_t streamed_bytes = 0;
};
PreflightFinding JudgeDecodingMemory(const DecodingFacts& facts, const std::string& role);

}  // namespace etl

#pragma once

#include "base/clock.h"
#include "base/status.h"
#include "model/position.h"
#include "postgres/connection.h"

namespace etl {

/// Where the source stands now (rule 9.1): transactions committed before the call have a commit LSN
/// below it.
Result<Lsn> ReadSyncTarget(const SourceOptions& source, Instant deadline);

}  // namespace etl

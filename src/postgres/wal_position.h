#pragma once

#include <cstdint>

#include "model/position.h"

namespace etl {

/// The insert position as the stream reports it (rule 9.1): an insert position that lies exactly
/// one page header past the start of a page has skipped the header (24 bytes, 40 at the start of a
/// segment) of a page nothing was written to yet; the stream never gets further than the start.
Lsn NormaliseInsertLsn(Lsn insert, uint64_t segment_size);

}  // namespace etl

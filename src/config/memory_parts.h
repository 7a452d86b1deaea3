#pragma once

#include <cstdint>

#include "config/config.h"

namespace etl {

/// The DuckDB files that pipelines of the configuration write into.
int CountDuckDbFiles(const Config& config);

/// The part of limits.memory that DuckDB has for each of them; the rest is for batches on their
/// way.
int64_t DuckDbMemory(const Config& config);

}  // namespace etl

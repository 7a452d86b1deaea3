#pragma once

#include "config/config.h"
#include "config/map_reader.h"

namespace etl {

/// Reads the keys of a destination of `type: snowflake`, beside `type` itself, from `reader`.
void LoadSnowflake(MapReader& reader, DecodeContext& context, SnowflakeConfig* out);

}  // namespace etl

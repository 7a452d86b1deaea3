#pragma once

#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "config/config.h"
#include "control/pipeline_factory.h"

namespace etl {

/// Removes slot, own publication and own bookkeeping of a pipeline that nobody runs; leaves the
/// tables.
Status DropPipeline(const Config& config, const std::string& pipeline, ProcessResources* resources,
                    const Clock& clock);

}  // namespace etl

#include "config/memory_parts.h"

#include <algorithm>

namespace etl {

int CountDuckDbFiles(const Config& config) {
  return static_cast<int>(std::count_if(
      config.destinations.begin(), config.destinations.end(), [&](const auto& destination) {
        return !destination.second.snowflake.has_value() &&
               std::any_of(config.pipelines.begin(), config.pipelines.end(),
                           [&](const auto& pipeline) {
                             return pipeline.second.destination == destination.first;
                           });
      }));
}

int64_t DuckDbMemory(const Config& config) {
  const int64_t all = std::max<int64_t>(config.limits.memory / 2, int64_t{64} << 20);
  return all / std::max(CountDuckDbFiles(config), 1);
}

}  // namespace etl

// The configuration loader: any text gives a configuration or problems, each with a place inside
// the file.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "config/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  etl::LoadOptions options;
  options.env = [](const std::string& name) -> std::optional<std::string> {
    if (name.size() % 3 == 0) return std::nullopt;
    return name;
  };
  const etl::LoadedConfig loaded = etl::LoadConfigText(text, "fuzz.yaml", options);
  ETL_CHECK((loaded.config != nullptr) == loaded.problems.empty());
  ETL_CHECK(loaded.status().ok() == loaded.problems.empty());
  (void)loaded.Describe();
  return 0;
}

// The configuration loader on arbitrary bytes: it must answer, with a configuration or with
// problems, and print them.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "config/load.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  etl::LoadOptions options;
  options.allow_plaintext = size % 2 == 0;
  options.env = [](const std::string& name) -> std::optional<std::string> {
    if (name == "A") return "value";
    return std::nullopt;
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const etl::LoadedConfig loaded = etl::LoadConfigText(text, "etl.yaml", options);
  if ((loaded.config == nullptr) == loaded.problems.empty()) std::abort();
  if (loaded.config == nullptr && loaded.Describe().empty()) std::abort();
  return 0;
}

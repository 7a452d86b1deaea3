#include "app/session.h"

#include <algorithm>
#include <cstdio>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "config/load.h"
#include "config/nearest.h"

namespace etl {

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void PrintError(std::string_view text) {
  std::fflush(stdout);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

Status Session::LoadConfig() {
  LoadOptions options;
  options.allow_plaintext = line_.allow_plaintext;
  const LoadedConfig loaded = LoadConfigFile(line_.config, options);
  if (loaded.config == nullptr) {
    PrintError(loaded.Describe());
    printed_ = true;
    return loaded.status();
  }
  for (const std::string& warning : loaded.warnings) LogWarn(warning);
  config_ = loaded.config;
  return Status::OK();
}

std::shared_ptr<const Config> Session::Reload() const {
  LoadOptions options;
  options.allow_plaintext = line_.allow_plaintext;
  const LoadedConfig loaded = LoadConfigFile(line_.config, options);
  if (loaded.config == nullptr) {
    PrintError(loaded.Describe());
    LogError("the configuration was not taken over; everything goes on as before",
             {{"error", ErrorLine(loaded.status())}});
  }
  return loaded.config;
}

Status Session::OpenCatalog() {
  ETL_ASSIGN_OR_RETURN(catalog_, Catalog::Open(config_->catalog, SystemClock()));
  return Status::OK();
}

Result<std::vector<std::string>> Session::Choose(const std::vector<std::string>& named) const {
  std::vector<std::string> defined;
  std::vector<std::string> enabled;
  for (const auto& [name, pipeline] : config_->pipelines) {
    defined.push_back(name);
    if (pipeline.enabled) enabled.push_back(name);
  }
  if (named.empty()) {
    if (!enabled.empty()) return enabled;
    return MakeError(ErrorKind::kConfig, "ETL-C014",
                     defined.empty()
                         ? fmt::format("{} defines no pipeline", line_.config)
                         : fmt::format("every pipeline in {} has enabled: false", line_.config),
                     defined.empty() ? "add one under pipelines"
                                     : "name the pipeline, or remove enabled: false");
  }
  std::vector<std::string> chosen;
  for (const std::string& name : named) {
    if (std::find(defined.begin(), defined.end(), name) == defined.end()) {
      const std::optional<std::string> nearest = NearestName(name, defined);
      return MakeError(
          ErrorKind::kUsage,
          ErrorParts{
              .code = "ETL-U002",
              .what = fmt::format("there is no pipeline \"{}\" in {}", name, line_.config),
              .why = fmt::format("defined: {}", fmt::join(defined, ", ")),
              .safe = {},
              .remedy = nearest.has_value() ? fmt::format("did you mean {}?", *nearest) : ""});
    }
    if (std::find(chosen.begin(), chosen.end(), name) == chosen.end()) chosen.push_back(name);
  }
  return chosen;
}

}  // namespace etl

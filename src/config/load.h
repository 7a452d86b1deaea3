#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/problem.h"
#include "config/values.h"

namespace etl {

struct LoadOptions {
  bool allow_plaintext = false;  ///< --allow-plaintext-secrets
  EnvReader env = ReadProcessEnv;
};

/// What came of loading: a configuration, or the problems that stand in its way.
struct LoadedConfig {
  std::shared_ptr<const Config> config;  ///< null if there are problems
  std::vector<ConfigProblem> problems;   ///< in the order of the file
  std::vector<std::string> warnings;     ///< to be logged at each start
  std::string file;

  /// OK, or one kConfig error that names the first problem and counts the others.
  Status status() const;
  /// Every problem (at most 20, then how many more there are), as FormatProblem prints them.
  std::string Describe() const;
};

/// Reads and checks a configuration file. Touches nothing else: secrets are not read, nothing is
/// connected to.
LoadedConfig LoadConfigFile(const std::string& path, const LoadOptions& options = {});
/// The same for text at hand; `file` is its name in messages, relative paths start at the folder of
/// `file`.
LoadedConfig LoadConfigText(std::string_view text, const std::string& file,
                            const LoadOptions& options = {});

}  // namespace etl

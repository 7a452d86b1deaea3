#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "app/command_line.h"
#include "base/status.h"
#include "catalog/catalog.h"
#include "config/config.h"

namespace etl {

/// What every command needs: the command line, and the configuration and catalog once asked for.
/// Main thread only.
class Session {
 public:
  explicit Session(CommandLine line) : line_(std::move(line)) {}
  const CommandLine& line() const { return line_; }

  /// Reads the configuration; its problems are printed here, with their places, and the error is
  /// marked as printed.
  Status LoadConfig();
  const Config& config() const { return *config_; }
  std::shared_ptr<const Config> shared_config() const { return config_; }
  /// Reads the configuration again and gives it if it is valid; problems are printed. Changes
  /// nothing here.
  std::shared_ptr<const Config> Reload() const;

  /// Opens the catalog, making it if need be. After LoadConfig.
  Status OpenCatalog();
  Catalog& catalog() { return *catalog_; }

  /// `named`, or every enabled pipeline if none is named. Unknown ones are an error of usage that
  /// names the nearest.
  Result<std::vector<std::string>> Choose(const std::vector<std::string>& named) const;

  /// The error was shown already; only its exit code is of interest.
  bool printed() const { return printed_; }

 private:
  const CommandLine line_;
  std::shared_ptr<const Config> config_;
  std::unique_ptr<Catalog> catalog_;
  bool printed_ = false;
};

/// Writes results; everything else goes to stderr.
void Print(std::string_view text);
void PrintError(std::string_view text);

}  // namespace etl

#pragma once

#include <string>

#include "base/status.h"

namespace etl {

/// A commented first configuration. `hint` is what the person has to do beside it, or empty.
struct StarterConfig {
  std::string text;
  std::string hint;
};

/// `from` is a libpq URL or keyword string (a password in it is left out and becomes a reference);
/// `to` is duckdb:FILE. Either may be empty: then an example stands there.
Result<StarterConfig> MakeStarterConfig(const std::string& from, const std::string& to);

}  // namespace etl

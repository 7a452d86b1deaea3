#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace etl {

/// The environment, passed in so that tests and the fuzzer have their own.
using EnvReader = std::function<std::optional<std::string>(const std::string& name)>;
/// The process's own environment.
std::optional<std::string> ReadProcessEnv(const std::string& name);

/// `250ms`, `5s`, `1m`, `2h`, `1d`; none if `text` is not of this form or too large.
std::optional<Duration> ParseDuration(std::string_view text);
/// The same form back, in the largest unit that is exact.
std::string FormatDuration(Duration duration);
/// `512B`, `64KiB`, `16MiB`, `1GiB`, `1TiB`.
std::optional<int64_t> ParseSize(std::string_view text);
std::string FormatSize(int64_t bytes);

/// What came of `${…}` in one value.
struct Interpolated {
  std::string text;
  bool used_env = false;
  std::string error;  ///< empty: all is well
  std::string hint;
};
/// Replaces `${NAME}`, `${NAME:-default}` and `$$` in one value. A `$` before anything else stands
/// for itself.
Interpolated Interpolate(std::string_view text, const EnvReader& env);

/// `[a-z][a-z0-9_]{0,47}`: the name of a source, destination or pipeline.
bool IsValidName(std::string_view name);
/// A name of an environment variable.
bool IsEnvName(std::string_view name);

}  // namespace etl

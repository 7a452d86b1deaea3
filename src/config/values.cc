#include "config/values.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

namespace etl {
namespace {

struct Unit {
  std::string_view name;
  int64_t factor;
};

constexpr std::array<Unit, 5> kDurations = {{{"ms", 1'000'000},
                                             {"s", 1'000'000'000},
                                             {"m", 60'000'000'000},
                                             {"h", 3'600'000'000'000},
                                             {"d", 86'400'000'000'000}}};
constexpr std::array<Unit, 5> kSizes = {{{"B", 1},
                                         {"KiB", int64_t{1} << 10},
                                         {"MiB", int64_t{1} << 20},
                                         {"GiB", int64_t{1} << 30},
                                         {"TiB", int64_t{1} << 40}}};

template <size_t N>
std::optional<int64_t> ParseWithUnit(std::string_view text, const std::array<Unit, N>& units) {
  int64_t number = 0;
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  const std::string_view suffix = text.substr(static_cast<size_t>(end - text.data()));
  for (const Unit& unit : units) {
    if (suffix != unit.name) continue;
    if (number > std::numeric_limits<int64_t>::max() / unit.factor) return std::nullopt;
    return number * unit.factor;
  }
  return std::nullopt;
}

template <size_t N>
std::string FormatWithUnit(int64_t value, const std::array<Unit, N>& units) {
  const Unit* best = &units[0];
  for (const Unit& unit : units) {
    if (value != 0 && value % unit.factor == 0) best = &unit;
  }
  return fmt::format("{}{}", value / best->factor, best->name);
}

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsLetter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

}  // namespace

std::optional<std::string> ReadProcessEnv(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr) return std::nullopt;
  return std::string(value);
}

std::optional<Duration> ParseDuration(std::string_view text) {
  const std::optional<int64_t> nanos = ParseWithUnit(text, kDurations);
  if (!nanos.has_value()) return std::nullopt;
  return Duration(*nanos);
}

std::string FormatDuration(Duration duration) {
  return FormatWithUnit(duration.count(), kDurations);
}
std::optional<int64_t> ParseSize(std::string_view text) { return ParseWithUnit(text, kSizes); }
std::string FormatSize(int64_t bytes) { return FormatWithUnit(bytes, kSizes); }

bool IsEnvName(std::string_view name) {
  if (name.empty() || IsDigit(name[0])) return false;
  for (char c : name) {
    if (!IsLetter(c) && !IsDigit(c) && c != '_') return false;
  }
  return true;
}

bool IsValidName(std::string_view name) {
  if (name.empty() || name.size() > 48 || name[0] < 'a' || name[0] > 'z') return false;
  for (char c : name) {
    if (!(c >= 'a' && c <= 'z') && !IsDigit(c) && c != '_') return false;
  }
  return true;
}

Interpolated Interpolate(std::string_view text, const EnvReader& env) {
  Interpolated out;
  size_t at = 0;
  while (at < text.size()) {
    if (text[at] != '$' || at + 1 == text.size() || (text[at + 1] != '$' && text[at + 1] != '{')) {
      out.text += text[at++];
      continue;
    }
    if (text[at + 1] == '$') {
      out.text += '$';
      at += 2;
      continue;
    }
    const size_t end = text.find('}', at);
    if (end == std::string_view::npos) {
      out.error = "\"${\" without its \"}\"";
      out.hint = "a dollar sign is written $$";
      return out;
    }
    const std::string_view inside = text.substr(at + 2, end - at - 2);
    const size_t colon = inside.find(":-");
    const std::string name(inside.substr(0, colon));
    if (!IsEnvName(name)) {
      out.error = fmt::format("\"{}\" is not the name of an environment variable", name);
      out.hint = "a dollar sign is written $$";
      return out;
    }
    std::optional<std::string> value = env(name);
    out.used_env = true;
    if (colon != std::string_view::npos && (!value.has_value() || value->empty())) {
      value = std::string(inside.substr(colon + 2));
    }
    if (!value.has_value()) {
      out.error = fmt::format("the environment variable {} is not set", name);
      out.hint = fmt::format("set it, or give a default: ${{{}:-default}}", name);
      return out;
    }
    out.text += *value;
    at = end + 1;
  }
  return out;
}

}  // namespace etl

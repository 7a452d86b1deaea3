#include "model/position.h"

#include <charconv>

#include <fmt/format.h>

namespace etl {

std::string FormatLsn(Lsn lsn) {
  return fmt::format("{:X}/{:X}", lsn.value >> 32, lsn.value & 0xffffffffu);
}

std::optional<Lsn> ParseLsn(std::string_view text) {
  const size_t slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  uint32_t high = 0;
  uint32_t low = 0;
  const char* middle = text.data() + slash;
  const char* end = text.data() + text.size();
  if (auto r = std::from_chars(text.data(), middle, high, 16);
      r.ec != std::errc() || r.ptr != middle)
    return std::nullopt;
  if (auto r = std::from_chars(middle + 1, end, low, 16); r.ec != std::errc() || r.ptr != end)
    return std::nullopt;
  return Lsn{uint64_t{high} << 32 | low};
}

std::string FormatPosition(const Position& position) {
  return fmt::format("{}:{}", FormatLsn(position.commit), position.ordinal);
}

}  // namespace etl

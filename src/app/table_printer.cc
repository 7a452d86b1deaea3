#include "app/table_printer.h"

#include <algorithm>
#include <array>

#include <fmt/format.h>

namespace etl {
namespace {

struct Decoded {
  char32_t point = 0;
  size_t length = 0;  // 0: not UTF-8
};

Decoded DecodeAt(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {lead, 1};
  const size_t length = lead >= 0xc2 && lead < 0xe0   ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (length == 0 || at + length > text.size()) return {};
  char32_t point = lead & (0xffu >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    const auto next = static_cast<unsigned char>(text[at + i]);
    if ((next & 0xc0) != 0x80) return {};
    point = (point << 6) | (next & 0x3fu);
  }
  return {point, length};
}

struct Range {
  char32_t first;
  char32_t last;
};

// Rough and independent of the locale: the blocks of combining marks, and of what terminals draw
// two columns wide.
constexpr std::array<Range, 9> kZeroWidth = {{{0x300, 0x36f},
                                              {0x483, 0x489},
                                              {0x591, 0x5bd},
                                              {0x610, 0x61a},
                                              {0x64b, 0x65f},
                                              {0x200b, 0x200f},
                                              {0x20d0, 0x20ff},
                                              {0xfe00, 0xfe0f},
                                              {0xfe20, 0xfe2f}}};
constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115f},
                                         {0x2e80, 0x303e},
                                         {0x3041, 0xa4cf},
                                         {0xac00, 0xd7a3},
                                         {0xf900, 0xfaff},
                                         {0xfe30, 0xfe6f},
                                         {0xff00, 0xff60},
                                         {0x1f300, 0x1faff},
                                         {0x20000, 0x3fffd}}};

template <size_t N>
bool In(const std::array<Range, N>& ranges, char32_t point) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& r) { return point >= r.first && point <= r.last; });
}

int WidthOf(char32_t point) { return In(kZeroWidth, point) ? 0 : In(kWide, point) ? 2 : 1; }

// Characters that change the direction of text could make a line read differently from what it is.
bool IsDangerous(char32_t point) {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || (point >= 0x202a && point <= 0x202e) ||
         (point >= 0x2066 && point <= 0x2069) || point == 0x200e || point == 0x200f ||
         (point >= 0x2028 && point <= 0x2029);
}

}  // namespace

int DisplayWidth(std::string_view text) {
  int width = 0;
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = DecodeAt(text, at);
    width += decoded.length == 0 ? 1 : WidthOf(decoded.point);
    at += std::max<size_t>(decoded.length, 1);
  }
  return width;
}

std::string Printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = DecodeAt(text, at);
    if (decoded.length == 0) {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at++]));
      continue;
    }
    if (decoded.point == '\n') {
      out += "\\n";
    } else if (decoded.point == '\t') {
      out += "\\t";
    } else if (IsDangerous(decoded.point)) {
      out += decoded.point < 0x100 ? fmt::format("\\x{:02x}", static_cast<uint32_t>(decoded.point))
                                   : fmt::format("\\u{:04x}", static_cast<uint32_t>(decoded.point));
    } else {
      out += text.substr(at, decoded.length);
    }
    at += decoded.length;
  }
  return out;
}

std::string Fitted(std::string_view text, int width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  std::string out;
  int used = 0;
  for (size_t at = 0; at < text.size();) {
    const Decoded decoded = DecodeAt(text, at);
    const size_t length = std::max<size_t>(decoded.length, 1);
    const int wide = decoded.length == 0 ? 1 : WidthOf(decoded.point);
    if (used + wide > width - 1) break;
    out += text.substr(at, length);
    used += wide;
    at += length;
  }
  return out + "…";
}

TablePrinter::TablePrinter(std::vector<std::string> titles, std::vector<Align> aligns)
    : aligns_(std::move(aligns)) {
  aligns_.resize(titles.size(), Align::kLeft);
  Add(std::move(titles));
}

void TablePrinter::Add(std::vector<std::string> cells) {
  cells.resize(aligns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back(std::move(cells));
}

std::string TablePrinter::Render(int indent, int widest) const {
  std::vector<int> widths(aligns_.size());
  for (const auto& row : rows_) {
    for (size_t c = 0; c < row.size(); ++c)
      widths[c] = std::max(widths[c], std::min(DisplayWidth(row[c]), widest));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line(static_cast<size_t>(indent), ' ');
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string cell = Fitted(row[c], widths[c]);
      const std::string pad(static_cast<size_t>(std::max(0, widths[c] - DisplayWidth(cell))), ' ');
      if (c > 0) line += "  ";
      line += aligns_[c] == Align::kRight ? pad + cell : cell + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

std::string Grouped(int64_t number) {
  std::string digits = std::to_string(number);
  const size_t first = number < 0 ? 1 : 0;
  for (size_t at = digits.size(); at > first + 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string HumanBytes(int64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace etl

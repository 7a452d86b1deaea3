#include "destination/snowflake/value_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>

namespace etl {
namespace {

__extension__ typedef unsigned __int128 Unsigned128;

struct Pairs {
  char text[200];
};
constexpr Pairs kPairs = [] {
  Pairs made{};
  for (int i = 0; i < 100; ++i) {
    made.text[2 * i] = static_cast<char>('0' + i / 10);
    made.text[2 * i + 1] = static_cast<char>('0' + i % 10);
  }
  return made;
}();

char* WritePair(uint32_t value, char* out) {
  std::memcpy(out, kPairs.text + 2 * value, 2);
  return out + 2;
}

char* WriteText(std::string_view text, char* out) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

template <typename T>
char* WriteInteger(T value, char* out) {
  return std::to_chars(out, out + 20, value).ptr;
}

struct YearMonthDay {
  int64_t year;  // 0 is 1 BC
  uint32_t month, day;
};

// Days since 1970-01-01 to the Gregorian calendar, by whole eras of 400 years that begin in March.
template <typename Signed>
YearMonthDay CivilOf(Signed days) {
  const Signed z = days + 719468;
  const Signed era = (z >= 0 ? z : z - 146096) / 146097;
  const auto doe = static_cast<uint32_t>(z - era * 146097);
  const uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
  const uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
  const uint32_t mp = (5 * doy + 2) / 153;
  const uint32_t month = mp < 10 ? mp + 3 : mp - 9;
  const int64_t year = static_cast<int64_t>(era) * 400 + yoe + (month <= 2 ? 1 : 0);
  return {year, month, doy - (153 * mp + 2) / 5 + 1};
}

// Any year from 1 on, of at least four digits.
char* WriteYear(int64_t year, char* out) {
  if (year > 9999) return WriteInteger(year, out);
  const auto small = static_cast<uint32_t>(year);
  return WritePair(small % 100, WritePair(small / 100, out));
}

char* WriteMonthDay(const YearMonthDay& date, char* out) {
  *out++ = '-';
  out = WritePair(date.month, out);
  *out++ = '-';
  return WritePair(date.day, out);
}

struct DayAndTime {
  int64_t day;
  int64_t micros;
};
DayAndTime Split(int64_t micros) {
  int64_t day = micros / kMicrosPerDay;
  int64_t rest = micros % kMicrosPerDay;
  if (rest < 0) {
    rest += kMicrosPerDay;
    --day;
  }
  return {day, rest};
}

template <typename Float>
char* WriteFloatOf(Float value, char* out) {
  if (!std::isfinite(value)) {
    if (std::isnan(value)) return WriteText("NaN", out);
    return WriteText(value < 0 ? "-Inf" : "Inf", out);
  }
  // Without the point a JSON parser takes it for the integer, which has one zero.
  if (value == 0 && std::signbit(value)) return WriteText("-0.0", out);
  return std::to_chars(out, out + 32, value).ptr;
}

// Exactly `count` digits.
char* WriteDigits(uint64_t value, int count, char* out) {
  char* const end = out + count;
  char* at = end;
  while (at - out >= 2) {
    at -= 2;
    WritePair(static_cast<uint32_t>(value % 100), at);
    value /= 100;
  }
  if (at > out) *out = static_cast<char>('0' + value);
  return end;
}

constexpr std::array<uint64_t, 20> kPowers = [] {
  std::array<uint64_t, 20> made{};
  uint64_t power = 1;
  for (uint64_t& one : made) {
    one = power;
    power *= 10;
  }
  return made;
}();

char* WriteLongDecimal(Unsigned128 value, int scale, char* out) {
  char digits[40];
  char* end = digits;
  const Unsigned128 top = value / kPowers[19];
  if (top != 0) {
    end = WriteInteger(static_cast<uint64_t>(top), end);
    end = WriteDigits(static_cast<uint64_t>(value % kPowers[19]), 19, end);
  } else {
    end = WriteInteger(static_cast<uint64_t>(value), end);
  }
  const auto count = static_cast<int>(end - digits);
  if (scale == 0) return WriteText({digits, end}, out);
  if (count > scale) {
    out = WriteText({digits, end - scale}, out);
  } else {
    *out++ = '0';
  }
  *out++ = '.';
  for (int zeros = count; zeros < scale; ++zeros) *out++ = '0';
  return WriteText({count > scale ? end - scale : digits, end}, out);
}

char* WritePart(int64_t value, char unit, char* out) {
  if (value == 0) return out;
  out = WriteInteger(value, out);
  *out++ = unit;
  return out;
}

char* WriteSeconds(int64_t nanoseconds, char* out) {
  if (nanoseconds == 0) return out;
  if (nanoseconds < 0) *out++ = '-';
  const auto size = static_cast<uint64_t>(nanoseconds < 0 ? -nanoseconds : nanoseconds);
  out = WriteInteger(size / 1'000'000'000, out);
  if (const uint64_t fraction = size % 1'000'000'000; fraction != 0) {
    *out++ = '.';
    out = WriteDigits(fraction, 9, out);
    while (out[-1] == '0') --out;
  }
  *out++ = 'S';
  return out;
}

struct HexPairs {
  char text[512];
};
constexpr HexPairs kHexPairs = [] {
  HexPairs made{};
  constexpr char kHex[] = "0123456789abcdef";
  for (unsigned i = 0; i < 256; ++i) {
    made.text[2 * i] = kHex[i >> 4];
    made.text[2 * i + 1] = kHex[i & 15];
  }
  return made;
}();

char* WriteHex(const uint8_t* bytes, int count, char* out) {
  for (int i = 0; i < count; ++i, out += 2)
    std::memcpy(out, kHexPairs.text + size_t{2} * bytes[i], 2);
  return out;
}

// Two digits for each 12 bits.
struct Base64Pairs {
  char text[8192];
};
constexpr Base64Pairs kBase64Pairs = [] {
  Base64Pairs made{};
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (unsigned i = 0; i < 4096; ++i) {
    made.text[2 * i] = kDigits[i >> 6];
    made.text[2 * i + 1] = kDigits[i & 63];
  }
  return made;
}();

char* WriteBase64Group(uint32_t bits, char* out) {
  std::memcpy(out, kBase64Pairs.text + size_t{2} * (bits >> 12), 2);
  std::memcpy(out + 2, kBase64Pairs.text + size_t{2} * (bits & 4095), 2);
  return out + 4;
}

}  // namespace

char* WriteDate(int32_t days, char* out) {
  const YearMonthDay date = CivilOf(days);
  const auto year = static_cast<uint32_t>(date.year);
  return WriteMonthDay(date, WritePair(year % 100, WritePair(year / 100, out)));
}

char* WriteTime(int64_t micros, char* out) {
  const auto seconds = static_cast<uint32_t>(micros / 1'000'000);
  const auto fraction = static_cast<uint32_t>(micros % 1'000'000);
  const uint32_t minutes = seconds / 60;
  out = WritePair(minutes / 60, out);
  *out++ = ':';
  out = WritePair(minutes % 60, out);
  *out++ = ':';
  out = WritePair(seconds % 60, out);
  *out++ = '.';
  const uint32_t high = fraction / 100;
  out = WritePair(high / 100, out);
  out = WritePair(high % 100, out);
  return WritePair(fraction % 100, out);
}

char* WriteTimestamp(int64_t micros, char* out) {
  const DayAndTime split = Split(micros);
  out = WriteDate(static_cast<int32_t>(split.day), out);
  *out++ = 'T';
  return WriteTime(split.micros, out);
}

char* WriteWideDate(int32_t days, char* out) {
  constexpr int32_t kInfinity = std::numeric_limits<int32_t>::max();
  if (days == kInfinity) return WriteText("infinity", out);
  if (days == -kInfinity) return WriteText("-infinity", out);
  const YearMonthDay date = CivilOf(int64_t{days});
  out = WriteMonthDay(date, WriteYear(date.year > 0 ? date.year : 1 - date.year, out));
  return date.year > 0 ? out : WriteText(" BC", out);
}

char* WriteWideTimestamp(int64_t micros, bool utc, char* out) {
  constexpr int64_t kInfinity = std::numeric_limits<int64_t>::max();
  if (micros == kInfinity) return WriteText("infinity", out);
  if (micros == -kInfinity) return WriteText("-infinity", out);
  const DayAndTime split = Split(micros);
  const YearMonthDay date = CivilOf(split.day);
  out = WriteMonthDay(date, WriteYear(date.year > 0 ? date.year : 1 - date.year, out));
  *out++ = ' ';
  out = WriteTime(split.micros, out);
  if (utc) out = WriteText("+00", out);
  return date.year > 0 ? out : WriteText(" BC", out);
}

char* WriteFloat(float value, char* out) {
  char* const end = WriteFloatOf(value, out);
  if (!std::isfinite(value)) return end;
  // Snowflake reads a double. Where that, rounded once more, is another float, the double that
  // equals this one is written.
  double read = 0;
  std::from_chars(out, end, read);
  if (static_cast<float>(read) == value) [[likely]]
    return end;
  return WriteFloatOf(static_cast<double>(value), out);
}
char* WriteFloat(double value, char* out) { return WriteFloatOf(value, out); }

char* WriteDecimal(Decimal value, int scale, char* out) {
  auto magnitude = static_cast<Unsigned128>(static_cast<uint64_t>(value.high)) << 64 | value.low;
  if (value.high < 0) {
    magnitude = -magnitude;
    *out++ = '-';
  }
  const auto low = static_cast<uint64_t>(magnitude);
  if (magnitude >> 64 != 0 || scale > 18) return WriteLongDecimal(magnitude, scale, out);
  const uint64_t unit = kPowers[static_cast<size_t>(scale)];
  out = WriteInteger(low / unit, out);
  if (scale == 0) return out;
  *out++ = '.';
  return WriteDigits(low % unit, scale, out);
}

char* WriteInterval(int32_t months, int32_t days, int64_t nanoseconds, char* out) {
  if (months == 0 && days == 0 && nanoseconds == 0) return WriteText("PT0S", out);
  constexpr int64_t kSecond = 1'000'000'000;
  *out++ = 'P';
  out = WritePart(months / 12, 'Y', out);
  out = WritePart(months % 12, 'M', out);
  out = WritePart(days, 'D', out);
  if (nanoseconds == 0) return out;
  *out++ = 'T';
  out = WritePart(nanoseconds / (3600 * kSecond), 'H', out);
  out = WritePart(nanoseconds / (60 * kSecond) % 60, 'M', out);
  return WriteSeconds(nanoseconds % (60 * kSecond), out);
}

char* WriteUuid(const uint8_t* bytes, char* out) {
  out = WriteHex(bytes, 4, out);
  for (int i = 4; i < 10; i += 2) {
    *out++ = '-';
    out = WriteHex(bytes + i, 2, out);
  }
  *out++ = '-';
  return WriteHex(bytes + 10, 6, out);
}

char* WriteHex64(uint64_t value, char* out) {
  uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
  return WriteHex(bytes, 8, out);
}

char* WriteBase64(std::string_view bytes, char* out) {
  const auto* from = reinterpret_cast<const uint8_t*>(bytes.data());
  size_t left = bytes.size();
  for (; left >= 3; from += 3, left -= 3)
    out = WriteBase64Group(uint32_t{from[0]} << 16 | uint32_t{from[1]} << 8 | from[2], out);
  if (left == 0) return out;
  const uint32_t second = left == 2 ? from[1] : 0;
  out = WriteBase64Group(uint32_t{from[0]} << 16 | second << 8, out);
  out[-1] = '=';
  if (left == 1) out[-2] = '=';
  return out;
}

}  // namespace etl

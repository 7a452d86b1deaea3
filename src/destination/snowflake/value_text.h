#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace etl {

// Values as the text that Snowflake reads. Every function writes at `out`, where there is room for
// the stated maximum, and returns the end; none allocates.

/// Days since 1970-01-01 of 0001-01-01 and 9999-12-31.
inline constexpr int32_t kFirstDay = -719162;
inline constexpr int32_t kLastDay = 2932896;
inline constexpr int64_t kMicrosPerDay = 86'400'000'000;

/// `2024-01-02`; `days` from kFirstDay to kLastDay. 10 bytes.
char* WriteDate(int32_t days, char* out);
/// `01:02:03.000004`; at most 24:00:00. 15 bytes.
char* WriteTime(int64_t micros, char* out);
/// `2024-01-02T03:04:05.000006`; the day from kFirstDay to kLastDay. 26 bytes.
char* WriteTimestamp(int64_t micros, char* out);
constexpr bool TimestampFits(int64_t micros) {
  return micros >= kFirstDay * kMicrosPerDay && micros < (int64_t{kLastDay} + 1) * kMicrosPerDay;
}

/// Any date or timestamp, in a form that PostgreSQL reads: `infinity`, `0044-03-15 BC`,
/// `10000-01-01`, `0044-03-15 12:00:00.000000+00 BC` (`utc`). At most kWideMax bytes.
inline constexpr size_t kWideMax = 48;
char* WriteWideDate(int32_t days, char* out);
char* WriteWideTimestamp(int64_t micros, bool utc, char* out);

/// Shortest text that reads back as the same value, a float also where it is read as a double
/// first; `NaN`, `Inf` or `-Inf`. At most 32 bytes.
char* WriteFloat(float value, char* out);
char* WriteFloat(double value, char* out);

/// A two's complement number of 128 bits, of which `scale` (0 to 38) decimal digits stand behind
/// the point: `-0.05`. At most 42 bytes.
struct Decimal {
  uint64_t low = 0;
  int64_t high = 0;
};
char* WriteDecimal(Decimal value, int scale, char* out);

/// As PostgreSQL prints it with IntervalStyle iso_8601: `P1Y2M-3DT4H5M6.789S`. At most 96 bytes.
char* WriteInterval(int32_t months, int32_t days, int64_t nanoseconds, char* out);

/// `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11` from 16 bytes. 36 bytes.
char* WriteUuid(const uint8_t* bytes, char* out);
/// 16 lower-case hex digits.
char* WriteHex64(uint64_t value, char* out);
/// With padding. Base64Size bytes.
constexpr size_t Base64Size(size_t size) { return (size + 2) / 3 * 4; }
char* WriteBase64(std::string_view bytes, char* out);

}  // namespace etl

#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "decode/cell_result.h"

namespace etl {

/// 1970-01-01 to 2000-01-01, where PostgreSQL's clock and calendar begin.
inline constexpr int64_t kPostgresEpochMicros = 946'684'800'000'000;

/// ±infinity as stored, so that Arrow and DuckDB show it as such.
inline constexpr int32_t kDateInfinity = std::numeric_limits<int32_t>::max();
inline constexpr int64_t kTimestampInfinity = std::numeric_limits<int64_t>::max();

struct IntervalValue {
  int32_t months = 0;
  int32_t days = 0;
  int64_t nanoseconds = 0;
};

// Text is DateStyle ISO and IntervalStyle postgres, which every session pins. Days and microseconds
// since 1970-01-01.

CellResult ParseDateText(std::string_view text, int32_t* out);
CellResult ParseDateBinary(std::string_view bytes, int32_t* out);

CellResult ParseTimestampText(std::string_view text, int64_t* out);
/// With an offset +hh[:mm[:ss]]; gives UTC.
CellResult ParseTimestampTzText(std::string_view text, int64_t* out);
/// Both timestamp and timestamptz.
CellResult ParseTimestampBinary(std::string_view bytes, int64_t* out);

/// Microseconds since midnight, 24:00:00 included.
CellResult ParseTimeText(std::string_view text, int64_t* out);
CellResult ParseTimeBinary(std::string_view bytes, int64_t* out);

/// Writes a binary timetz as the server prints it, at most kTimeTzTextMax bytes.
inline constexpr size_t kTimeTzTextMax = 32;
CellResult WriteTimeTzText(std::string_view bytes, char* out, size_t* size);
/// Whether `text` is a timetz as the server prints it.
CellResult CheckTimeTzText(std::string_view text);

CellResult ParseIntervalText(std::string_view text, IntervalValue* out);
CellResult ParseIntervalBinary(std::string_view bytes, IntervalValue* out);

}  // namespace etl

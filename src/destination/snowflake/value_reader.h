#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <arrow/type_fwd.h>

namespace etl {

/// Values as the SQL API writes them, back into Arrow: what ValueEncoder wrote and Snowflake kept
/// is the same value again. Pure; any thread.

/// Appends the value of a column, none being NULL, to the builder of its type. False, with nothing
/// to rely on in the builder: `text` is no value of that type.
bool AppendStored(const std::optional<std::string>& text, arrow::ArrayBuilder* builder);

/// An interval as PostgreSQL prints it with IntervalStyle iso_8601.
struct IsoInterval {
  int32_t months = 0;
  int32_t days = 0;
  int64_t nanoseconds = 0;
};
std::optional<IsoInterval> ParseIsoInterval(std::string_view text);

/// `1611528001.123456000`, possibly negative, as microseconds. None if digits would be lost.
std::optional<int64_t> ParseSeconds(std::string_view text);

}  // namespace etl

#pragma once

#include <cstdint>
#include <string_view>

namespace etl {

/// What came of one value. Small, so that the hot path carries no Status.
enum class CellResult : uint8_t {
  kOk,
  // The server sent what it never should, or we cannot go on: always an error.
  kMalformed,   ///< not a value of the type in this form
  kAttributes,  ///< a composite with another number of attributes than the schema shows
  kNeedsText,   ///< the hash of this type is only known from its text form
  kNoMemory,    ///< no memory, or a column of a batch past 2 GiB
  // A good value that its column cannot hold: `on_unrepresentable` decides.
  kNotANumber,
  kInfinite,
  kDigits,
  kTimestampRange,
  kIntervalRange,
  kNotUtf8,
  kDimensions,
  kLowerBounds,
};

constexpr bool IsUnrepresentable(CellResult result) { return result >= CellResult::kNotANumber; }

/// One phrase for people: "NaN has no place in a decimal".
std::string_view ReasonOf(CellResult result);

}  // namespace etl

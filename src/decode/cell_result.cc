#include "decode/cell_result.h"

namespace etl {

std::string_view ReasonOf(CellResult result) {
  switch (result) {
    case CellResult::kOk: return "it is fine";
    case CellResult::kMalformed: return "the bytes are no value of this type";
    case CellResult::kAttributes: return "the composite has other attributes than the table showed";
    case CellResult::kNeedsText: return "its hash is made of the text form, and it came in binary";
    case CellResult::kNoMemory: return "there is no memory for it";
    case CellResult::kNotANumber: return "NaN has no place in a decimal";
    case CellResult::kInfinite: return "an infinite value has no place in the column's type";
    case CellResult::kDigits: return "it has more digits than the decimal holds";
    case CellResult::kTimestampRange: return "timestamps end at 294247-01-10 04:00:54.775806";
    case CellResult::kIntervalRange:
      return "the time part of an interval ends at 9223372036854775 microseconds";
    case CellResult::kNotUtf8: return "the bytes are not UTF-8";
    case CellResult::kDimensions:
      return "the array has another number of dimensions than the column declares";
    case CellResult::kLowerBounds: return "a lower bound of the array is not 1";
  }
  return "unknown";
}

}  // namespace etl

#pragma once

#include <cstdint>
#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "destination/snowflake/text_buffer.h"

namespace etl {

/// Most bytes of one VARCHAR, VARIANT or BINARY value in Snowflake.
inline constexpr size_t kVarcharBytesMax = 134'217'728;
inline constexpr size_t kVariantBytesMax = 134'217'728;
inline constexpr size_t kBinaryBytesMax = 67'108'864;

/// Where a line is being written, and why the last value was refused.
struct LineSink {
  TextBuffer* out = nullptr;
  size_t margin = 0;            ///< room that is kept behind every value
  const char* fault = nullptr;  ///< a phrase for people, never the value
};

/// Writes the values of one Arrow array as JSON, as docs/types.md says; one function for a type,
/// chosen once a column. Recursive for lists and structs, whose values become one VARIANT: what has
/// no exact JSON number inside it (numerics, dates, bytes, json) is a string there. One owner, one
/// thread.
class ValueEncoder {
 public:
  /// Most bytes that a value of a type of fixed size takes; the others reserve their own room.
  static constexpr size_t kFixedMax = 104;

  /// kInternal for a type that no column has.
  static Result<std::unique_ptr<ValueEncoder>> Make(const arrow::DataType& type);
  virtual ~ValueEncoder() = default;

  /// The next rows are those of `data`, which outlives them.
  virtual void Bind(const arrow::ArrayData& data);
  bool IsNull(int64_t row) const {
    const int64_t bit = offset_ + row;
    return validity_ != nullptr && (validity_[bit / 8] >> (bit % 8) & 1) == 0;
  }
  /// Writes a value that is not NULL at `at`, where there is room for kFixedMax bytes and the
  /// margin; leaves room for the margin. Returns the end, or null with `sink->fault` set if the
  /// column cannot hold the value.
  virtual char* Write(int64_t row, char* at, LineSink* sink) = 0;

 private:
  const uint8_t* validity_ = nullptr;
  int64_t offset_ = 0;
};

}  // namespace etl

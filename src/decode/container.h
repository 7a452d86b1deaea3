#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/byte_reader.h"
#include "decode/cell_result.h"

namespace etl {

inline constexpr int kDimensionsMax = 6;  ///< of a PostgreSQL array

/// The bounds of an array; no dimensions: empty.
struct ArrayShape {
  int dimensions = 0;
  std::array<int32_t, kDimensionsMax> sizes{};
  bool lower_bounds_one = true;
};

/// One element or attribute, in the same form as the container. `bytes` are valid until the next
/// one is read.
struct ContainerItem {
  bool null = false;
  std::string_view bytes;
};

// Readers of containers: Next until it says false, then result(), which is kOk only if the
// container was whole. Items of a quoted text are put together in `scratch`, which the caller
// keeps, so that nothing is allocated for a value.

/// `[2:3]={{1,NULL},{"a b","q\"x"}}`. Elements come in row-major order; the shape is known at the
/// end.
class ArrayTextReader {
 public:
  ArrayTextReader(std::string_view text, char delimiter, std::string* scratch);
  bool Next(ContainerItem* item);
  CellResult result() const { return result_; }
  const ArrayShape& shape() const { return shape_; }

 private:
  bool Fail();
  void ReadBounds();
  bool OpenBraces();
  bool CloseBraces();
  bool ReadElement(ContainerItem* item);
  bool ReadQuoted(ContainerItem* item);

  const char* at_;
  const char* end_;
  const char delimiter_;
  std::string* scratch_;
  CellResult result_ = CellResult::kOk;
  ArrayShape shape_;
  ArrayShape bounds_;                             ///< of the prefix, if there was one
  int depth_ = 0;                                 ///< braces open now
  std::array<int32_t, kDimensionsMax> counts_{};  ///< items so far in each open brace
  bool first_ = true;
  bool done_ = false;
};

class ArrayBinaryReader {
 public:
  explicit ArrayBinaryReader(std::string_view bytes);
  /// The shape is known before the first element.
  bool Next(ContainerItem* item);
  CellResult result() const { return result_; }
  const ArrayShape& shape() const { return shape_; }

 private:
  ByteReader in_;
  CellResult result_ = CellResult::kOk;
  ArrayShape shape_;
  uint64_t left_ = 0;
};

/// `(1,"a ""b""",)`. Attributes in order.
class CompositeTextReader {
 public:
  CompositeTextReader(std::string_view text, std::string* scratch);
  bool Next(ContainerItem* item);
  CellResult result() const { return result_; }

 private:
  bool Fail();
  bool ReadQuoted(ContainerItem* item);

  const char* at_;
  const char* end_;
  std::string* scratch_;
  CellResult result_ = CellResult::kOk;
  bool done_ = false;
};

class CompositeBinaryReader {
 public:
  explicit CompositeBinaryReader(std::string_view bytes);
  bool Next(ContainerItem* item);
  CellResult result() const { return result_; }

 private:
  ByteReader in_;
  CellResult result_ = CellResult::kOk;
  int32_t left_ = 0;
};

}  // namespace etl

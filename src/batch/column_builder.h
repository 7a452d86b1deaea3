#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include <arrow/type_fwd.h>

#include "batch/grow_buffer.h"
#include "decode/cell_result.h"
#include "model/column_type.h"

namespace etl {

/// Gathers the values of one column, straight from the server's bytes into Arrow memory; there is
/// one for each TypeKind. An append that is not kOk leaves the builder as it was. One owner, one
/// thread.
class ColumnBuilder {
 public:
  /// The builder of a type; recursive for lists and structs.
  static std::unique_ptr<ColumnBuilder> Make(const ColumnType& type);
  virtual ~ColumnBuilder() = default;

  virtual CellResult AppendText(std::string_view text) = 0;
  /// The type's send format. kMalformed for types that have only a text form.
  virtual CellResult AppendBinary(std::string_view bytes) = 0;
  virtual CellResult AppendNull() = 0;
  /// Undoes the values after the first `length`.
  virtual void Truncate(int64_t length) = 0;
  /// Hands over an array of ArrowTypeOf(type), and is empty afterwards.
  virtual std::shared_ptr<arrow::ArrayData> Finish() = 0;
  /// Memory in use, about.
  virtual int64_t bytes() const = 0;

  int64_t length() const { return length_; }

 protected:
  explicit ColumnBuilder(std::shared_ptr<arrow::DataType> type) : type_(std::move(type)) {}

  /// Records one value's validity and counts it; false if there is no memory.
  [[gnu::always_inline]] bool PushValid() {
    if (has_nulls_ && !PushBit(true)) [[unlikely]]
      return false;
    ++length_;
    return true;
  }
  bool PushNull() {
    if (!has_nulls_ && !StartBitmap()) return false;
    if (!PushBit(false)) return false;
    ++length_;
    return true;
  }
  void TruncateValidity(int64_t length) { length_ = std::min(length, length_); }
  /// The array's data with the validity and these buffers behind it; resets length and validity.
  std::shared_ptr<arrow::ArrayData> FinishWith(
      std::vector<std::shared_ptr<arrow::Buffer>> buffers,
      std::vector<std::shared_ptr<arrow::ArrayData>> children = {});
  int64_t validity_bytes() const { return has_nulls_ ? length_ / 8 : 0; }
  const std::shared_ptr<arrow::DataType>& type() const { return type_; }

 private:
  // The bitmap exists from the first NULL on; bits past `length_` have no meaning.
  [[gnu::noinline]] bool PushBit(bool valid) {
    const int64_t byte = length_ / 8;
    if (byte >= bitmap_.size() && !bitmap_.Push(0)) return false;
    const auto mask = static_cast<uint8_t>(1u << (length_ % 8));
    bitmap_[byte] = static_cast<uint8_t>(valid ? bitmap_[byte] | mask : bitmap_[byte] & ~mask);
    return true;
  }
  bool StartBitmap();

  std::shared_ptr<arrow::DataType> type_;
  GrowBuffer<uint8_t> bitmap_;
  bool has_nulls_ = false;
  int64_t length_ = 0;
};

/// Builders of lists and structs (nested_builder.cc).
std::unique_ptr<ColumnBuilder> MakeListBuilder(const ColumnType& type);
std::unique_ptr<ColumnBuilder> MakeStructBuilder(const ColumnType& type);

}  // namespace etl

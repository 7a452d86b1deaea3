#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <arrow/array/data.h>
#include <arrow/type.h>

#include "batch/column_builder.h"
#include "decode/container.h"

namespace etl {
namespace {

// An array column. All its declared dimensions are in one builder: elements come in row-major order
// and are appended to `element_`; then each level gets its offsets at once. Level 0 is the
// outermost. Only level 0 can be NULL.
class ListBuilder final : public ColumnBuilder {
 public:
  explicit ListBuilder(const ColumnType& type)
      : ColumnBuilder(ArrowTypeOf(type)),
        element_(ColumnBuilder::Make(*type.element)),
        delimiter_(type.delimiter),
        offsets_(type.dimensions) {}

  CellResult AppendText(std::string_view text) override {
    ArrayTextReader reader(text, delimiter_, &scratch_);
    return Append(reader, &ColumnBuilder::AppendText);
  }
  CellResult AppendBinary(std::string_view bytes) override {
    ArrayBinaryReader reader(bytes);
    return Append(reader, &ColumnBuilder::AppendBinary);
  }
  CellResult AppendNull() override {
    if (!ReserveOffsets({}) || !PushNull()) return CellResult::kNoMemory;
    offsets_[0].UnsafePush(LastOffset(0));
    return CellResult::kOk;
  }
  void Truncate(int64_t length) override {
    TruncateValidity(length);
    int64_t kept = length;
    for (GrowBuffer<int32_t>& offsets : offsets_) {
      if (offsets.size() == 0) return;
      offsets.Truncate(kept + 1);
      kept = offsets[offsets.size() - 1];
    }
    element_->Truncate(kept);
  }
  std::shared_ptr<arrow::ArrayData> Finish() override {
    if (!ReserveOffsets({})) return nullptr;
    std::shared_ptr<arrow::ArrayData> nested = element_->Finish();
    for (size_t level = offsets_.size(); level-- > 1;) {
      std::shared_ptr<arrow::DataType> type = LevelType(level);
      const int64_t count = offsets_[level].size() - 1;
      nested = arrow::ArrayData::Make(std::move(type), count, {nullptr, offsets_[level].Finish()},
                                      {nested}, 0);
    }
    return FinishWith({offsets_[0].Finish()}, {nested});
  }
  int64_t bytes() const override {
    int64_t sum = validity_bytes() + element_->bytes();
    for (const GrowBuffer<int32_t>& offsets : offsets_) sum += offsets.size() * 4;
    return sum;
  }

 private:
  template <typename Reader>
  CellResult Append(Reader& reader, CellResult (ColumnBuilder::*append)(std::string_view)) {
    const int64_t before = element_->length();
    CellResult result = AppendElements(reader, append);
    if (result == CellResult::kOk) result = CheckShape(reader.shape());
    if (result == CellResult::kOk && !AppendOffsets(reader.shape())) result = CellResult::kNoMemory;
    if (result != CellResult::kOk) [[unlikely]]
      element_->Truncate(before);
    return result;
  }

  template <typename Reader>
  CellResult AppendElements(Reader& reader, CellResult (ColumnBuilder::*append)(std::string_view)) {
    ContainerItem item;
    while (reader.Next(&item)) {
      const CellResult result =
          item.null ? element_->AppendNull() : (*element_.*append)(item.bytes);
      if (result != CellResult::kOk) [[unlikely]]
        return result;
    }
    return reader.result();
  }

  CellResult CheckShape(const ArrayShape& shape) const {
    if (!shape.lower_bounds_one) return CellResult::kLowerBounds;
    if (shape.dimensions != 0 && shape.dimensions != static_cast<int>(offsets_.size()))
      return CellResult::kDimensions;
    return CellResult::kOk;
  }

  // Room for one more value of this shape, and the first offset of each level.
  bool ReserveOffsets(const ArrayShape& shape) {
    int64_t lists = 1;
    for (size_t level = 0; level < offsets_.size(); ++level) {
      if (!offsets_[level].Reserve(lists + 1)) return false;
      if (offsets_[level].size() == 0) offsets_[level].UnsafePush(0);
      lists *= shape.sizes[level];
    }
    return true;
  }

  bool AppendOffsets(const ArrayShape& shape) {
    if (element_->length() > std::numeric_limits<int32_t>::max()) return false;
    if (!ReserveOffsets(shape) || !PushValid()) return false;
    int64_t lists = 1;
    for (size_t level = 0; level < offsets_.size(); ++level) {
      const int32_t size = shape.sizes[level];
      int32_t offset = LastOffset(level);
      for (int64_t i = 0; i < lists; ++i) offsets_[level].UnsafePush(offset += size);
      lists *= size;
    }
    return true;
  }

  int32_t LastOffset(size_t level) const { return offsets_[level][offsets_[level].size() - 1]; }

  std::shared_ptr<arrow::DataType> LevelType(size_t level) const {
    std::shared_ptr<arrow::DataType> nested = type();
    for (size_t i = 0; i < level; ++i) nested = nested->field(0)->type();
    return nested;
  }

  std::unique_ptr<ColumnBuilder> element_;
  const char delimiter_;
  std::vector<GrowBuffer<int32_t>> offsets_;
  std::string scratch_;
};

// A composite column.
class StructBuilder final : public ColumnBuilder {
 public:
  explicit StructBuilder(const ColumnType& type) : ColumnBuilder(ArrowTypeOf(type)) {
    for (const ColumnType::Field& field : type.fields)
      fields_.push_back(ColumnBuilder::Make(*field.type));
  }

  CellResult AppendText(std::string_view text) override {
    CompositeTextReader reader(text, &scratch_);
    return Append(reader, &ColumnBuilder::AppendText);
  }
  CellResult AppendBinary(std::string_view bytes) override {
    CompositeBinaryReader reader(bytes);
    return Append(reader, &ColumnBuilder::AppendBinary);
  }
  CellResult AppendNull() override {
    for (const auto& field : fields_) {
      if (field->AppendNull() != CellResult::kOk) return Undo(CellResult::kNoMemory);
    }
    return PushNull() ? CellResult::kOk : Undo(CellResult::kNoMemory);
  }
  void Truncate(int64_t new_length) override {
    TruncateValidity(new_length);
    for (const auto& field : fields_) field->Truncate(new_length);
  }
  std::shared_ptr<arrow::ArrayData> Finish() override {
    std::vector<std::shared_ptr<arrow::ArrayData>> children;
    for (const auto& field : fields_) children.push_back(field->Finish());
    return FinishWith({}, std::move(children));
  }
  int64_t bytes() const override {
    int64_t sum = validity_bytes();
    for (const auto& field : fields_) sum += field->bytes();
    return sum;
  }

 private:
  template <typename Reader>
  CellResult Append(Reader& reader, CellResult (ColumnBuilder::*append)(std::string_view)) {
    ContainerItem item;
    size_t count = 0;
    for (; reader.Next(&item); ++count) {
      if (count == fields_.size()) return Undo(CellResult::kAttributes);
      ColumnBuilder& field = *fields_[count];
      const CellResult result = item.null ? field.AppendNull() : (field.*append)(item.bytes);
      if (result != CellResult::kOk) [[unlikely]]
        return Undo(result);
    }
    if (reader.result() != CellResult::kOk) return Undo(reader.result());
    if (count != fields_.size()) return Undo(CellResult::kAttributes);
    return PushValid() ? CellResult::kOk : Undo(CellResult::kNoMemory);
  }

  CellResult Undo(CellResult result) {
    Truncate(length());
    return result;
  }

  std::vector<std::unique_ptr<ColumnBuilder>> fields_;
  std::string scratch_;
};

}  // namespace

std::unique_ptr<ColumnBuilder> MakeListBuilder(const ColumnType& type) {
  return std::make_unique<ListBuilder>(type);
}
std::unique_ptr<ColumnBuilder> MakeStructBuilder(const ColumnType& type) {
  return std::make_unique<StructBuilder>(type);
}

}  // namespace etl

#include "control/row_hash.h"

#include <bit>
#include <cmath>

#include <arrow/array.h>
#include <arrow/record_batch.h>
#include <arrow/scalar.h>
#include <arrow/type.h>
#include <xxhash.h>

namespace etl {
namespace {

constexpr uint8_t kNullMark = 0;
constexpr uint8_t kValueMark = 1;

// Serialises one cell so that different values give different bytes.
class CellBytes {
 public:
  void Clear() { bytes_.clear(); }
  RowHash Hash() const {
    const XXH128_hash_t hash = XXH3_128bits(bytes_.data(), bytes_.size());
    return {.low = hash.low64, .high = hash.high64};
  }

  Status Add(const arrow::Array& array, int64_t row) {
    if (array.IsNull(row)) {
      bytes_.push_back(static_cast<char>(kNullMark));
      return Status::OK();
    }
    bytes_.push_back(static_cast<char>(kValueMark));
    switch (array.type_id()) {
      case arrow::Type::BOOL:
        Raw(static_cast<const arrow::BooleanArray&>(array).Value(row));
        return Status::OK();
      case arrow::Type::INT16:
        Raw(static_cast<const arrow::Int16Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::INT32:
        Raw(static_cast<const arrow::Int32Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::INT64:
        Raw(static_cast<const arrow::Int64Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::UINT32:
        Raw(static_cast<const arrow::UInt32Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::DATE32:
        Raw(static_cast<const arrow::Date32Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::TIMESTAMP:
        Raw(static_cast<const arrow::TimestampArray&>(array).Value(row));
        return Status::OK();
      case arrow::Type::TIME64:
        Raw(static_cast<const arrow::Time64Array&>(array).Value(row));
        return Status::OK();
      case arrow::Type::FLOAT: {
        const float value = static_cast<const arrow::FloatArray&>(array).Value(row);
        // `+ 0` makes a negative zero positive: DuckDB's compression may drop that sign.
        Raw(std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value + 0.0f));
        return Status::OK();
      }
      case arrow::Type::DOUBLE: {
        const double value = static_cast<const arrow::DoubleArray&>(array).Value(row);
        Raw(std::isnan(value) ? uint64_t{0x7ff8000000000000}
                              : std::bit_cast<uint64_t>(value + 0.0));
        return Status::OK();
      }
      case arrow::Type::INTERVAL_MONTH_DAY_NANO: {
        const auto value =
            static_cast<const arrow::MonthDayNanoIntervalArray&>(array).GetValue(row);
        Raw(value.months);
        Raw(value.days);
        Raw(value.nanoseconds);
        return Status::OK();
      }
      case arrow::Type::DECIMAL128:
      case arrow::Type::FIXED_SIZE_BINARY: {
        const auto view = static_cast<const arrow::FixedSizeBinaryArray&>(array).GetView(row);
        bytes_.append(view);
        return Status::OK();
      }
      case arrow::Type::STRING:
      case arrow::Type::BINARY: {
        const auto view = static_cast<const arrow::BinaryArray&>(array).GetView(row);
        Raw(static_cast<uint64_t>(view.size()));
        bytes_.append(view);
        return Status::OK();
      }
      case arrow::Type::LIST: {
        const auto& list = static_cast<const arrow::ListArray&>(array);
        Raw(static_cast<uint64_t>(list.value_length(row)));
        for (int64_t i = list.value_offset(row); i < list.value_offset(row + 1); ++i) {
          ETL_RETURN_IF_ERROR(Add(*list.values(), i));
        }
        return Status::OK();
      }
      case arrow::Type::STRUCT: {
        const auto& fields = static_cast<const arrow::StructArray&>(array);
        for (int i = 0; i < fields.num_fields(); ++i)
          ETL_RETURN_IF_ERROR(Add(*fields.field(i), row));
        return Status::OK();
      }
      default:
        return MakeError(ErrorKind::kInternal, "ETL-X004",
                         "cannot compare values of type " + array.type()->ToString());
    }
  }

 private:
  template <typename T>
  void Raw(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string bytes_;
};

}  // namespace

Result<std::vector<RowHash>> HashRows(const arrow::RecordBatch& rows,
                                      const std::vector<int>& columns) {
  std::vector<RowHash> hashes;
  hashes.reserve(static_cast<size_t>(rows.num_rows()));
  CellBytes cells;
  const arrow::ArrayVector arrays = rows.columns();
  for (int64_t row = 0; row < rows.num_rows(); ++row) {
    cells.Clear();
    for (int column : columns)
      ETL_RETURN_IF_ERROR(cells.Add(*arrays[static_cast<size_t>(column)], row));
    hashes.push_back(cells.Hash());
  }
  return hashes;
}

std::string ShowKey(const arrow::RecordBatch& rows, const std::vector<int>& key, int64_t row) {
  std::string text;
  for (int column : key) {
    if (!text.empty()) text += ",";
    const arrow::Result<std::shared_ptr<arrow::Scalar>> scalar =
        rows.column(column)->GetScalar(row);
    text += scalar.ok() ? (*scalar)->ToString() : "?";
  }
  return text;
}

}  // namespace etl

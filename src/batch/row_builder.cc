#include "batch/row_builder.h"

#include <utility>

#include <arrow/array/data.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include "base/log.h"
#include "batch/hash_builder.h"

namespace etl {
namespace {

constexpr int64_t kHashBytes = 64 + 4;

// What a value takes in memory, or the fixed part of it.
int64_t FixedBytes(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kBool: return 1;
    case TypeKind::kInt2: return 2;
    case TypeKind::kInt4:
    case TypeKind::kOid:
    case TypeKind::kFloat4:
    case TypeKind::kDate: return 4;
    case TypeKind::kInt8:
    case TypeKind::kFloat8:
    case TypeKind::kTimestamp:
    case TypeKind::kTimestampTz:
    case TypeKind::kTime: return 8;
    case TypeKind::kDecimal:
    case TypeKind::kUuid:
    case TypeKind::kInterval: return 16;
    default: return 4;  // an offset
  }
}

bool IsSized(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kNumericText:
    case TypeKind::kText:
    case TypeKind::kChar:
    case TypeKind::kBytea:
    case TypeKind::kJson:
    case TypeKind::kJsonb:
    case TypeKind::kTimeTz:
    case TypeKind::kList:
    case TypeKind::kStruct:
    case TypeKind::kServerText: return true;
    default: return false;
  }
}

bool HasComposite(const ColumnType& type) {
  return type.kind == TypeKind::kStruct || (type.element != nullptr && HasComposite(*type.element));
}

}  // namespace

Result<std::unique_ptr<RowBuilder>> RowBuilder::Make(TableSchemaPtr schema,
                                                     const BatchOptions* options) {
  std::unique_ptr<RowBuilder> made(new RowBuilder(std::move(schema), options));
  made->arrow_schema_ = made->schema_->ArrowSchema();
  ETL_RETURN_IF_ERROR(made->MakeBuilders());
  ETL_RETURN_IF_ERROR(made->MakeSlots());
  return made;
}

Status RowBuilder::MakeBuilders() {
  const size_t count = schema_->columns.size();
  builders_.resize(count);
  nested_bytes_.resize(count);
  warned_.resize(count);
  for (size_t i = 0; i < count; ++i) {
    const Column& column = schema_->columns[i];
    if (!column.hashed) {
      builders_[i] = ColumnBuilder::Make(*column.type);
      fixed_bytes_ += FixedBytes(*column.type);
      continue;
    }
    if (options_->hash_key.empty()) {
      return MakeError(ErrorKind::kConfig, "ETL-C140",
                       fmt::format("column {}.{} is to be hashed and there is no hash_key",
                                   schema_->QualifiedName(), column.name),
                       "set hash_key for the pipeline, for instance hash_key: {env: HASH_KEY}");
    }
    fixed_bytes_ += kHashBytes;
  }
  return Status::OK();
}

Status RowBuilder::MakeSlots() {
  std::vector<bool> fed(builders_.size());
  for (const WireColumn& wire : schema_->wire) {
    WireSlot& slot = slots_.emplace_back();
    slot.output = wire.output;
    if (wire.output < 0) continue;
    const auto output = static_cast<size_t>(wire.output);
    if (output >= builders_.size() || fed[output]) break;
    fed[output] = true;
    if (schema_->columns[output].hashed) {
      ETL_ASSIGN_OR_RETURN(builders_[output], MakeHashBuilder(wire.type, options_->hash_key));
    } else {
      slot.sized = IsSized(*wire.type);
      slot.nested = wire.type->kind == TypeKind::kList || wire.type->kind == TypeKind::kStruct;
    }
    slot.builder = builders_[output].get();
  }
  for (const int key : schema_->key) {
    for (WireSlot& slot : slots_) slot.key = slot.key || slot.output == key;
  }
  for (const bool one : fed) {
    if (one) continue;
    return MakeError(
        ErrorKind::kInternal, "ETL-D144",
        "schema of " + schema_->QualifiedName() + ": wire columns and stored columns do not match");
  }
  return Status::OK();
}

void RowBuilder::Count(const WireSlot& slot, const Cell& cell) {
  if (!slot.nested) {
    bytes_ += static_cast<int64_t>(cell.bytes.size());
    return;
  }
  int64_t& counted = nested_bytes_[static_cast<size_t>(slot.output)];
  const int64_t now = slot.builder->bytes();
  bytes_ += now - counted;
  counted = now;
}

std::string RowBuilder::PlaceText() const {
  if (place_.copied_row >= 0) return fmt::format("row {} of the copy", place_.copied_row);
  return FormatPosition(place_.position);
}

Status RowBuilder::RowError(ErrorKind kind, std::string_view code, std::string_view what,
                            std::string remedy) const {
  return MakeError(kind, code,
                   fmt::format("{} at {}: {}", schema_->QualifiedName(), PlaceText(), what),
                   std::move(remedy));
}

Status RowBuilder::Settle(const WireSlot& slot, CellResult result) {
  const auto output = static_cast<size_t>(slot.output);
  const Column& column = schema_->columns[output];
  ErrorParts parts;
  parts.why = std::string(ReasonOf(result));
  if (!IsUnrepresentable(result)) {
    // A value that is not of its attribute's type is another attribute's.
    if (result == CellResult::kAttributes ||
        (result == CellResult::kMalformed && HasComposite(*column.type))) {
      return RowError(ErrorKind::kSchema, kOtherAttributes,
                      fmt::format("a value of column {} ({}) has other attributes than the table "
                                  "showed",
                                  column.name, column.type->name));
    }
    const bool data = result == CellResult::kNeedsText;
    parts.code = "ETL-D141";
    parts.what = fmt::format("{} at {}: a value of column {} ({}) cannot be read",
                             schema_->QualifiedName(), PlaceText(), column.name, column.type->name);
    parts.remedy = data ? "exclude the column (columns: exclude), or resync the table" : "";
    return MakeError(data ? ErrorKind::kData : ErrorKind::kInternal, std::move(parts));
  }
  if (options_->on_unrepresentable == OnUnrepresentable::kNull && !slot.key) {
    ++nulled_;
    if (!warned_[output]) {
      warned_[output] = true;
      LogWarn(
          "a value cannot be represented and is stored as NULL; further ones in this column are "
          "only counted",
          {{"table", schema_->QualifiedName()},
           {"column", column.name},
           {"at", PlaceText()},
           {"reason", parts.why}});
    }
    return AppendNull(slot);
  }
  parts.code = "ETL-D140";
  parts.what = fmt::format("{} at {}: a value of column {} ({}) cannot be represented",
                           schema_->QualifiedName(), PlaceText(), column.name, column.type->name);
  parts.safe = "everything before this row is kept; nothing is lost";
  parts.remedy =
      slot.key ? "correct the value at the source; a key column is never stored as NULL"
               : fmt::format(
                     "set on_unrepresentable: null, or exclude the column (columns: {}: {{exclude: "
                     "[{}]}}), or correct the value at the source",
                     schema_->QualifiedName(), column.name);
  return MakeError(ErrorKind::kData, std::move(parts));
}

Result<std::shared_ptr<arrow::RecordBatch>> RowBuilder::Finish(int64_t rows) {
  std::vector<std::shared_ptr<arrow::ArrayData>> columns;
  columns.reserve(builders_.size());
  for (const auto& builder : builders_) {
    columns.push_back(builder->Finish());
    if (columns.back() == nullptr || columns.back()->length != rows) {
      return MakeError(
          ErrorKind::kInternal, "ETL-D144",
          schema_->QualifiedName() + ": a column of a batch is not as long as the others");
    }
  }
  bytes_ = 0;
  nested_bytes_.assign(nested_bytes_.size(), 0);
  return arrow::RecordBatch::Make(arrow_schema_, rows, std::move(columns));
}

}  // namespace etl

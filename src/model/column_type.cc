#include "model/column_type.h"

#include <arrow/type.h>
#include <arrow/util/key_value_metadata.h>

namespace etl {

std::shared_ptr<arrow::DataType> ArrowTypeOf(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kBool: return arrow::boolean();
    case TypeKind::kInt2: return arrow::int16();
    case TypeKind::kInt4: return arrow::int32();
    case TypeKind::kInt8: return arrow::int64();
    case TypeKind::kOid: return arrow::uint32();
    case TypeKind::kFloat4: return arrow::float32();
    case TypeKind::kFloat8: return arrow::float64();
    case TypeKind::kDecimal: return arrow::decimal128(type.precision, type.scale);
    case TypeKind::kBytea: return arrow::binary();
    case TypeKind::kUuid: return arrow::fixed_size_binary(16);
    case TypeKind::kDate: return arrow::date32();
    case TypeKind::kTimestamp: return arrow::timestamp(arrow::TimeUnit::MICRO);
    case TypeKind::kTimestampTz: return arrow::timestamp(arrow::TimeUnit::MICRO, "UTC");
    case TypeKind::kTime: return arrow::time64(arrow::TimeUnit::MICRO);
    case TypeKind::kInterval: return arrow::month_day_nano_interval();
    case TypeKind::kList: {
      std::shared_ptr<arrow::DataType> nested;
      std::shared_ptr<arrow::Field> item = ArrowFieldOf("item", *type.element);
      for (int depth = 0; depth < type.dimensions; ++depth) {
        nested = arrow::list(item);
        item = arrow::field("item", nested);
      }
      return nested;
    }
    case TypeKind::kStruct: {
      arrow::FieldVector fields;
      for (const ColumnType::Field& field : type.fields)
        fields.push_back(ArrowFieldOf(field.name, *field.type));
      return arrow::struct_(std::move(fields));
    }
    case TypeKind::kNumericText:
    case TypeKind::kText:
    case TypeKind::kChar:
    case TypeKind::kJson:
    case TypeKind::kJsonb:
    case TypeKind::kTimeTz:
    case TypeKind::kServerText: return arrow::utf8();
  }
  return arrow::utf8();
}

std::shared_ptr<arrow::Field> ArrowFieldOf(const std::string& name, const ColumnType& type) {
  std::shared_ptr<const arrow::KeyValueMetadata> metadata;
  if (type.kind == TypeKind::kUuid) {
    metadata = arrow::key_value_metadata({"ARROW:extension:name", "ARROW:extension:metadata"},
                                         {"arrow.uuid", ""});
  } else if (type.kind == TypeKind::kJson || type.kind == TypeKind::kJsonb) {
    metadata = arrow::key_value_metadata({"ARROW:extension:name", "ARROW:extension:metadata"},
                                         {"arrow.json", ""});
  }
  return arrow::field(name, ArrowTypeOf(type), /*nullable=*/true, metadata);
}

bool BinaryUnderstood(const ColumnType& type) {
  switch (type.kind) {
    case TypeKind::kServerText: return false;
    case TypeKind::kList: return BinaryUnderstood(*type.element);
    case TypeKind::kStruct:
      for (const ColumnType::Field& field : type.fields) {
        if (!BinaryUnderstood(*field.type)) return false;
      }
      return true;
    default: return true;
  }
}

}  // namespace etl

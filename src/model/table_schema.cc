#include "model/table_schema.h"

#include <arrow/type.h>

namespace etl {

int TableSchema::ColumnByAttnum(int16_t attnum) const {
  for (size_t i = 0; i < columns.size(); ++i) {
    if (columns[i].attnum == attnum) return static_cast<int>(i);
  }
  return -1;
}

std::shared_ptr<arrow::Schema> TableSchema::ArrowSchema() const {
  arrow::FieldVector fields;
  fields.reserve(columns.size());
  for (const Column& column : columns) fields.push_back(ArrowFieldOf(column.name, *column.type));
  return arrow::schema(std::move(fields));
}

}  // namespace etl

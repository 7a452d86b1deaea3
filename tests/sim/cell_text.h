#pragma once

#include <optional>
#include <string>

#include <arrow/array.h>

#include "base/check.h"

namespace etl {

/// A cell of the few types the models use, as PostgreSQL prints it; none: NULL.
inline std::optional<std::string> CellText(const arrow::Array& array, int64_t row) {
  if (array.IsNull(row)) return std::nullopt;
  switch (array.type_id()) {
    case arrow::Type::INT32:
      return std::to_string(static_cast<const arrow::Int32Array&>(array).Value(row));
    case arrow::Type::INT64:
      return std::to_string(static_cast<const arrow::Int64Array&>(array).Value(row));
    case arrow::Type::STRING:
      return std::string(static_cast<const arrow::StringArray&>(array).GetView(row));
    default: CheckFailed("a type the models use", __FILE__, __LINE__);
  }
}

}  // namespace etl

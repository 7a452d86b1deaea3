#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "model/table_schema.h"

namespace etl {

/// A schema version as JSON, for a destination's own bookkeeping. Both ways are exact.
std::string SchemaToJson(const TableSchema& schema);
Result<TableSchemaPtr> SchemaFromJson(std::string_view json);

}  // namespace etl

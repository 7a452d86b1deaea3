#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "destination/snowflake/sql_answer.h"
#include "model/table_schema.h"

namespace etl {

/// The first columns of `rows` are the key columns of `schema`: their values from the texts of the
/// SQL API. Pure; any thread. Fails where a key has a type that is a VARIANT in Snowflake.
Result<std::shared_ptr<arrow::RecordBatch>> KeysOf(const TableSchema& schema, const SqlRows& rows);

}  // namespace etl

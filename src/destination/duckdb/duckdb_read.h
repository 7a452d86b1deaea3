#pragma once

#include <functional>
#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"
#include "model/table_schema.h"

namespace etl {

/// All rows of a table of the copy, as batches of the schema's columns, in the transaction at hand.
Status ReadDuckDbTable(
    DuckDbConnection& connection, const TableSchema& schema,
    const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch);

}  // namespace etl

#include "destination/duckdb/duckdb_read.h"

#include <string>

#include "destination/duckdb/duckdb_sql.h"

namespace etl {

Status ReadDuckDbTable(
    DuckDbConnection& connection, const TableSchema& schema,
    const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch) {
  std::string columns;
  for (const Column& column : schema.columns)
    columns += (columns.empty() ? "" : ", ") + QuoteIdentifier(column.name);
  return connection.Query(
      "SELECT " + columns + " FROM " + connection.Table(schema.schema, schema.name).Sql(),
      schema.ArrowSchema(), on_batch);
}

}  // namespace etl

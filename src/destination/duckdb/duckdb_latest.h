#pragma once

#include <functional>
#include <memory>
#include <string>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"
#include "model/table_schema.h"

namespace etl {

/// The rows that a table of an append pipeline stands for: the latest change of each key (rule
/// C11), values that a change did not send taken from where they were sent last. Changes of before
/// the table's last copy do not count, for what happened between the two was never seen.
///
/// Keeps what it found in temporary tables of the connection, which a second object replaces. Used
/// in one transaction, on the thread of the connection, which outlives it.
class DuckDbLatestRows {
 public:
  /// `schema` has a key, and is the version that is stored.
  static Result<std::unique_ptr<DuckDbLatestRows>> Find(DuckDbConnection& connection,
                                                        const std::string& pipeline,
                                                        TableSchemaPtr schema);

  /// All rows as batches of the schema's columns; may be called again.
  Status Read(
      const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch) const;

 private:
  DuckDbLatestRows(DuckDbConnection& connection, TableSchemaPtr schema);
  Status FindCounted(const std::string& pipeline);
  Status FindLast();
  /// Where each value of column `index` that a latest change did not send was sent: a table of the
  /// changes' positions and of the positions found.
  Status FindSources(size_t index);
  Status CompletePartial(const std::vector<size_t>& unsent);
  std::string KeyColumns(const std::string& alias) const;
  std::string KeyMatch(const std::string& alias, const std::string& keys) const;

  DuckDbConnection& connection_;
  const TableSchemaPtr schema_;
  const std::string table_;  ///< as SQL
  std::string counted_;      ///< which changes count, as a condition on `t`
};

}  // namespace etl

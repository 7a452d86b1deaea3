#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>
#include <duckdb.h>

#include "base/status.h"
#include "destination/duckdb/duckdb_sql.h"

namespace etl {

/// A DuckDB error under our kinds: a full disk and a failed COMMIT are transient (only the stored
/// position says what happened), a lock is busy, lack of memory says which limit.
Status DuckDbError(duckdb_error_type type, std::string_view message, std::string_view doing);

/// DuckDB's message without what follows its first blank line (advice, the statement's text), its
/// lines made into one.
std::string DuckDbWords(std::string_view message);

/// One row of a bookkeeping query; NULL is nullopt.
using TextRow = std::vector<std::optional<std::string>>;

/// One connection of an open file, used by one thread. Rolls back what is open when it ends.
class DuckDbConnection {
 public:
  static Result<std::unique_ptr<DuckDbConnection>> Open(duckdb_database database);
  ~DuckDbConnection();
  DuckDbConnection(const DuckDbConnection&) = delete;
  DuckDbConnection& operator=(const DuckDbConnection&) = delete;

  const std::string& catalog() const { return catalog_; }
  DuckDbTable Table(std::string schema, std::string name) const {
    return {catalog_, std::move(schema), std::move(name)};
  }
  DuckDbTable Temporary(std::string name) const { return {"temp", "main", std::move(name)}; }

  /// Runs one or several statements; the number of rows that the last one changed.
  Result<int64_t> Execute(const std::string& sql);
  /// Rows as text, for bookkeeping; every column must be cast to VARCHAR in the query.
  Result<std::vector<TextRow>> Rows(const std::string& sql);
  /// The same, row by row and without holding them all.
  Status TextRows(const std::string& sql, const std::function<Status(const TextRow&)>& on_row);
  /// The single number of a query.
  Result<int64_t> Number(const std::string& sql);
  /// Streams a query's rows as batches of `schema`, whose types must be what the columns' DuckDB
  /// types stand for.
  Status Query(const std::string& sql, const std::shared_ptr<arrow::Schema>& schema,
               const std::function<Status(const std::shared_ptr<arrow::RecordBatch>&)>& on_batch);
  /// All rows of a query in one batch.
  Result<std::shared_ptr<arrow::RecordBatch>> QueryBatch(
      const std::string& sql, const std::shared_ptr<arrow::Schema>& schema);

  /// Appends `rows` to the table's columns of the same names, in the transaction at hand.
  Status Append(const DuckDbTable& table, const arrow::RecordBatch& rows);

  /// Whether a table or view of that name is there. Far cheaper than to ask duckdb_tables(), which
  /// looks at every table of the file.
  Result<bool> Has(const DuckDbTable& table);

  Status Begin();
  Status Commit();
  /// Never fails: what cannot be rolled back was not committed.
  void Rollback();
  bool in_transaction() const { return in_transaction_; }

  duckdb_connection handle() const { return connection_; }

 private:
  DuckDbConnection() = default;
  duckdb_connection connection_ = nullptr;
  std::string catalog_;
  bool in_transaction_ = false;
};

}  // namespace etl

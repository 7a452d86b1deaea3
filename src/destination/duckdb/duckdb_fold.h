#pragma once

#include <optional>
#include <set>
#include <vector>

#include "base/status.h"
#include "destination/duckdb/duckdb_connection.h"
#include "model/segment.h"

namespace etl {

/// The tables that a fold works with, in one file.
struct FoldTables {
  DuckDbTable shadow;
  DuckDbTable pending;
  std::optional<DuckDbTable> settled;
};

struct FoldOutcome {
  bool diverged = false;
  std::string why;
  /// Keys with values that were never sent; then the transaction must be rolled back.
  std::shared_ptr<arrow::RecordBatch> missing;
  std::vector<uint32_t> xids;
};

/// Applies the pending changes to the copied rows (correctness: copy and fold) in the transaction
/// at hand; what remains in the shadow is the table.
class DuckDbFold {
 public:
  DuckDbFold(DuckDbConnection& connection, const TableSchema& schema, FoldTables tables,
             Lsn ignore_below, int64_t memory_bytes);
  Result<FoldOutcome> Run();
  /// Of a table with a key: what Run would find missing. Changes nothing; shadow and pending may be
  /// views. Where values were read again `temp.main._etl_final` has the rows that lacked values,
  /// and in taken<attnum> whether a value is the one that was read.
  Result<FoldOutcome> FindMissing();
  /// After either: columns of which a key's last change did not send the value.
  const std::set<int16_t>& unsent() const { return unsent_; }

 private:
  /// Whether the table was truncated.
  Result<bool> FindStart();
  /// How many keys' last changes lack values.
  Result<int64_t> FindLast();
  Status RunKeyed(FoldOutcome* outcome);
  Status ResolveUnsent(FoldOutcome* outcome);
  Status GatherSources(const std::set<int16_t>& unsent);
  Status ReportMissing(FoldOutcome* outcome);
  Status DeleteTouched();
  Status RunFullRows(FoldOutcome* outcome);

  std::string KeyColumns(const std::string& alias) const;
  std::string KeyUsing(const std::string& a, const std::string& b) const;
  std::string ShadowKeyUsing(const std::string& shadow, const std::string& other) const;
  std::string ShadowColumns() const;
  std::string PassingName() const;

  DuckDbConnection& connection_;
  const TableSchema& schema_;
  const FoldTables tables_;
  const Lsn ignore_below_;
  const int64_t memory_bytes_;
  std::string counts_;  // Condition for pending changes that count.
  std::set<int16_t> unsent_;
};

/// The columns of a pending table, as CREATE TABLE takes them.
std::string PendingDefinitions(const TableSchema& schema);

}  // namespace etl

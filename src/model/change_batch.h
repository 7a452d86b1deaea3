#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/clock.h"
#include "model/position.h"
#include "model/table_schema.h"

namespace etl {

/// What one row of a ChangeBatch does.
enum class Op : uint8_t {
  kInsert = 'i',
  kUpdate = 'u',  ///< same key; some columns may be unsent (unchanged TOAST)
  kDelete = 'd',  ///< the key columns (others NULL), or the whole row where the source sends it
  kMove = 'm',    ///< the insert half of a key change; its kDelete of the old key is the row before
                ///< it, in the same batch; its unsent columns are those of the old key's row. Shown
                ///< to people as `i`
  kSnapshot = 'r',  ///< a copied row
};

/// Rows [previous end, end_row) of a batch belong to one transaction.
struct TransactionRun {
  Lsn commit;  ///< start of the commit record
  UnixMicros commit_time = 0;
  uint32_t xid = 0;
  int64_t end_row = 0;
};

/// Changes of one table in stream order, as columns. Immutable once sealed; owned by the segment
/// that carries it.
///
/// `rows` has one Arrow column for each of `schema->columns` (names and types of
/// `schema->ArrowSchema()`). An update with a key change arrives as kDelete(old key) and kMove(new
/// row). A table with Identity::kFullRow has only kInsert and kDelete with whole rows: its updates
/// are split in the same way.
struct ChangeBatch {
  TableSchemaPtr schema;
  std::shared_ptr<arrow::RecordBatch> rows;
  std::vector<Op> ops;             ///< one per row
  std::vector<uint64_t> ordinals;  ///< one per row: Position::ordinal
  std::vector<TransactionRun> transactions;
  /// `unsent_words` words per row, bit c of a row set: column c was not sent (stored as NULL here).
  /// Empty: none unsent.
  std::vector<uint64_t> unsent;
  int unsent_words = 0;
  int64_t bytes = 0;  ///< memory held, about

  int64_t size() const { return static_cast<int64_t>(ops.size()); }
  bool Unsent(int64_t row, int column) const {
    return !unsent.empty() &&
           (unsent[static_cast<size_t>(row * unsent_words + column / 64)] >> (column % 64) & 1) !=
               0;
  }
};

}  // namespace etl

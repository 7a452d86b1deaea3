#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "model/change_batch.h"

namespace etl {

/// What a batch of changes of a keyed table comes to: which keys it touches and which row each key
/// ends with.
///
/// Pure. Sources of values are rows of the batch, or, below zero, target rows: `-(k + 1)` stands
/// for the row that the target had for the key of `key_rows[k]` before the batch.
struct FinalRows {
  /// One batch row for each distinct key, from which its key columns can be taken.
  std::vector<int64_t> key_rows;
  /// How many of the keys must have had a row in the target before (their first change is an update
  /// or a delete).
  int64_t existing = 0;
  /// An insert onto an existing key, or an update or delete of a missing one, within the batch
  /// itself.
  bool contradiction = false;
  /// Batch rows that are the last state of a surviving key.
  std::vector<int64_t> rows;
  /// Only if values were unsent: for each column the source of each of `rows`; a column without any
  /// is left empty.
  std::vector<std::vector<int64_t>> sources;
  /// The keys (indices into key_rows) whose target rows are asked for by `sources`.
  std::vector<int64_t> wanted;
  bool only_inserts = false;
};

/// `batch.schema->identity` is kKey.
Result<FinalRows> ComputeFinalRows(const ChangeBatch& batch);

/// The bytes by which rows are told apart (rule 5.4): one string a row over the columns `columns`.
class RowBytes {
 public:
  static Result<RowBytes> Make(const arrow::RecordBatch& rows, const std::vector<int>& columns);
  std::string_view At(int64_t row) const {
    const auto i = static_cast<size_t>(row);
    return {bytes_.data() + offsets_[i], offsets_[i + 1] - offsets_[i]};
  }

 private:
  std::vector<char> bytes_;
  std::vector<size_t> offsets_;
};

/// Numbers distinct byte strings from 0 in the order of their first row.
std::vector<int32_t> GroupRows(const RowBytes& bytes, int64_t rows, std::vector<int64_t>* first);

}  // namespace etl

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "model/table_schema.h"

namespace etl {

/// 128 bits of a row or key; equal values have equal hashes on both sides of a comparison.
struct RowHash {
  uint64_t low = 0;
  uint64_t high = 0;
  friend bool operator==(const RowHash&, const RowHash&) = default;
  friend auto operator<=>(const RowHash&, const RowHash&) = default;
};

/// The hashes of the given columns of each row, over the stored bits: floats by their bits (one
/// NaN), text by its bytes, lists and structs recursively, NULL unlike any value.
Result<std::vector<RowHash>> HashRows(const arrow::RecordBatch& rows,
                                      const std::vector<int>& columns);

/// A value as a person would write it, for naming keys.
std::string ShowKey(const arrow::RecordBatch& rows, const std::vector<int>& key, int64_t row);

}  // namespace etl

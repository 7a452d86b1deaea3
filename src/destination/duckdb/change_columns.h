#pragma once

#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "destination/row_mapping.h"
#include "model/change_batch.h"
#include "model/segment.h"

namespace etl {

/// `batch` as rows of a pending table: columns c<attnum>, then op, lsn, ordinal, xid, unsent
/// (attribute numbers).
Result<std::shared_ptr<arrow::RecordBatch>> PendingRows(const ChangeBatch& batch);
/// `batch` as rows of an append table: the source's columns, then the metadata columns.
Result<std::shared_ptr<arrow::RecordBatch>> AppendRows(const ChangeBatch& batch);
/// A truncate as a row of either table.
Result<std::shared_ptr<arrow::RecordBatch>> TruncateRow(const TruncateChange& truncate,
                                                        bool pending);
/// Rows that the engine makes, for an append table: positions (commit, first_ordinal), (commit,
/// first_ordinal + 1) …
Result<std::shared_ptr<arrow::RecordBatch>> EngineRows(
    const std::shared_ptr<arrow::RecordBatch>& rows, Op op, Lsn commit, uint64_t first_ordinal);

/// Rows `indices` of `array`, in that order.
Result<std::shared_ptr<arrow::Array>> TakeRows(const std::shared_ptr<arrow::Array>& array,
                                               const std::vector<int64_t>& indices);
Result<std::shared_ptr<arrow::RecordBatch>> TakeRows(
    const std::shared_ptr<arrow::RecordBatch>& rows, const std::vector<int64_t>& indices);

}  // namespace etl

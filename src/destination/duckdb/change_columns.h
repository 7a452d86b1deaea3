#pragma once

#include <map>
#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "model/change_batch.h"
#include "model/segment.h"

namespace etl {

using FillValues = std::map<int16_t, std::shared_ptr<arrow::Array>>;

/// The same rows under another version of their table: columns matched by attnum, added ones filled
/// (NULL without a value), gone ones left out, widened ones cast.
Result<std::shared_ptr<arrow::RecordBatch>> MapRows(const std::shared_ptr<arrow::RecordBatch>& rows,
                                                    const TableSchema& from, const TableSchema& to,
                                                    const FillValues& fill);
/// The same for changes, with their unsent bits. Returns `batch` itself when both versions store
/// the same columns.
Result<const ChangeBatch*> MapChanges(const ChangeBatch& batch, const TableSchemaPtr& to,
                                      const FillValues& fill, ChangeBatch* mapped);
/// Both versions store the same columns under the same names, types and key.
bool SameColumns(const TableSchema& a, const TableSchema& b);

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

#pragma once

#include <map>
#include <memory>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "model/change_batch.h"
#include "model/segment.h"

namespace etl {

/// Values of added columns, by attnum: arrays of length 1.
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

}  // namespace etl

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <arrow/type_fwd.h>

#include "base/status.h"
#include "batch/column_builder.h"
#include "batch/table_batcher.h"
#include "decode/pgoutput.h"
#include "model/table_schema.h"

namespace etl {

/// Where the row stands that is being built, for messages.
struct RowPlace {
  Position position;        ///< in the stream
  int64_t copied_row = -1;  ///< or: number of the row in a copy
};

/// A column as it arrives, and where its values go.
struct WireSlot {
  ColumnBuilder* builder = nullptr;  ///< null: excluded by configuration
  int output = -1;                   ///< index in TableSchema::columns
  bool key = false;
  bool sized = false;   ///< values of any size: counted cell by cell
  bool nested = false;  ///< the size in memory is another than on the wire
};

/// The columns of one table while rows are gathered: cells in wire order to builders in the
/// schema's order, and the decision about values that cannot be represented. Owned by a batcher.
/// After an error it is of no more use.
class RowBuilder {
 public:
  static Result<std::unique_ptr<RowBuilder>> Make(TableSchemaPtr schema,
                                                  const BatchOptions* options);

  const std::vector<WireSlot>& slots() const { return slots_; }
  const TableSchemaPtr& schema() const { return schema_; }
  void StartRow(const RowPlace& place) {
    place_ = place;
    bytes_ += fixed_bytes_;
  }
  /// The slot's value in the row: a cell of kind 'n', 't' or 'b'.
  Status Append(const WireSlot& slot, const Cell& cell) {
    CellResult result = CellResult::kMalformed;
    if (cell.kind == 't') {
      result = slot.builder->AppendText(cell.bytes);
    } else if (cell.kind == 'b') {
      result = slot.builder->AppendBinary(cell.bytes);
    } else if (cell.kind == 'n') {
      return AppendNull(slot);
    }
    if (result != CellResult::kOk) [[unlikely]]
      return Settle(slot, result);
    if (slot.sized) Count(slot, cell);
    return Status::OK();
  }
  Status AppendNull(const WireSlot& slot) {
    const CellResult result = slot.builder->AppendNull();
    return result == CellResult::kOk ? Status::OK() : Settle(slot, result);
  }
  /// An error of ours or the server's about this row: "public.t at 0/1:2: what".
  Status RowError(ErrorKind kind, std::string_view code, std::string_view what,
                  std::string remedy = {}) const;

  Result<std::shared_ptr<arrow::RecordBatch>> Finish(int64_t rows);
  int64_t bytes() const { return bytes_; }
  int64_t nulled() const { return nulled_; }

 private:
  RowBuilder(TableSchemaPtr schema, const BatchOptions* options)
      : schema_(std::move(schema)), options_(options) {}
  Status MakeBuilders();
  Status MakeSlots();
  void Count(const WireSlot& slot, const Cell& cell);
  // What becomes of a value that the builder did not take.
  Status Settle(const WireSlot& slot, CellResult result);
  std::string PlaceText() const;

  TableSchemaPtr schema_;
  const BatchOptions* options_;
  std::shared_ptr<arrow::Schema> arrow_schema_;
  std::vector<std::unique_ptr<ColumnBuilder>> builders_;  // as TableSchema::columns
  std::vector<WireSlot> slots_;                           // as TableSchema::wire
  std::vector<int64_t> nested_bytes_;  // as builders_: what was counted of a nested column
  std::vector<bool> warned_;           // as builders_
  RowPlace place_;
  int64_t fixed_bytes_ = 0;  // of a row, without what is counted by the cell
  int64_t bytes_ = 0;
  int64_t nulled_ = 0;
};

}  // namespace etl

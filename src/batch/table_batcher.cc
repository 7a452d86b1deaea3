#include "batch/table_batcher.h"

#include <utility>

#include <arrow/array/util.h>
#include <arrow/record_batch.h>
#include <fmt/format.h>

#include "batch/row_builder.h"

namespace etl {
namespace {

constexpr int64_t kRowBookkeeping = 1 + 8;  // op and ordinal

class Batcher final : public TableBatcher {
 public:
  explicit Batcher(std::unique_ptr<RowBuilder> rows)
      : rows_(std::move(rows)),
        unsent_words_(static_cast<int>((rows_->schema()->columns.size() + 63) / 64)) {}

  void Begin(Lsn commit, UnixMicros commit_time, uint32_t xid) override {
    CloseRun();
    run_ = TransactionRun{.commit = commit, .commit_time = commit_time, .xid = xid, .end_row = 0};
  }

  Status Insert(std::span<const Cell> row, uint64_t ordinal) override {
    Place(ordinal);
    ETL_RETURN_IF_ERROR(CheckCells(row));
    return AppendRow(Op::kInsert, row, {}, 0);
  }

  Status Update(char old_kind, std::span<const Cell> old_row, std::span<const Cell> row,
                uint64_t ordinal) override {
    Place(ordinal);
    ETL_RETURN_IF_ERROR(CheckCells(row));
    if (old_kind != 0) ETL_RETURN_IF_ERROR(CheckCells(old_row));
    switch (schema()->identity) {
      case Identity::kNone: return NoIdentity("an UPDATE");
      case Identity::kFullRow: break;
      case Identity::kKey:
        if (old_kind == 0 || !KeyChanges(old_row, row))
          return AppendRow(Op::kUpdate, row, old_row, old_kind);
        ETL_RETURN_IF_ERROR(AppendDelete(old_row, old_kind));
        Place(ordinal + 1);
        return AppendRow(Op::kMove, row, old_row, old_kind);
    }
    if (old_kind != 'O') return NoOldRow("an UPDATE");
    ETL_RETURN_IF_ERROR(AppendDelete(old_row, old_kind));
    Place(ordinal + 1);
    return AppendRow(Op::kInsert, row, old_row, old_kind);
  }

  Status Delete(char old_kind, std::span<const Cell> old_row, uint64_t ordinal) override {
    Place(ordinal);
    ETL_RETURN_IF_ERROR(CheckCells(old_row));
    if (schema()->identity == Identity::kNone) return NoIdentity("a DELETE");
    if (old_kind != 'O' && (old_kind != 'K' || schema()->identity == Identity::kFullRow))
      return NoOldRow("a DELETE");
    return AppendDelete(old_row, old_kind);
  }

  int64_t rows() const override { return static_cast<int64_t>(ops_.size()); }
  int64_t bytes() const override {
    return rows_->bytes() + rows() * kRowBookkeeping +
           static_cast<int64_t>(unsent_.size() * sizeof(uint64_t));
  }
  const TableSchemaPtr& schema() const override { return rows_->schema(); }
  int64_t nulled() const override { return rows_->nulled(); }

  Result<ChangeBatch> Seal() override {
    CloseRun();
    ChangeBatch batch;
    batch.schema = schema();
    batch.bytes = bytes();
    ETL_ASSIGN_OR_RETURN(batch.rows, rows_->Finish(rows()));
    batch.ops = std::exchange(ops_, {});
    batch.ordinals = std::exchange(ordinals_, {});
    batch.transactions = std::exchange(runs_, {});
    batch.unsent_words = unsent_.empty() ? 0 : unsent_words_;
    batch.unsent = std::exchange(unsent_, {});
    return batch;
  }

 private:
  void Place(uint64_t ordinal) { place_.position = Position{run_.commit, ordinal}; }

  Status CheckCells(std::span<const Cell> cells) {
    if (cells.size() == rows_->slots().size()) [[likely]]
      return Status::OK();
    StartMessage();
    return rows_->RowError(ErrorKind::kInternal, "ETL-D142",
                           fmt::format("the row has {} columns, the table has {}", cells.size(),
                                       rows_->slots().size()));
  }
  // Puts the place into messages before a row was started.
  void StartMessage() { rows_->StartRow(place_); }

  Status NoIdentity(std::string_view what) {
    StartMessage();
    return rows_->RowError(ErrorKind::kSchema, "ETL-S140",
                           fmt::format("{} of a table without replica identity", what),
                           "resync the table after its replica identity was set");
  }
  Status NoOldRow(std::string_view what) {
    StartMessage();
    return rows_->RowError(
        ErrorKind::kSchema, "ETL-S141", fmt::format("{} without the old row it needs", what),
        "set the replica identity as it was when the table was copied, then resync the table");
  }
  Status NoKey(const WireSlot& slot) {
    const Column& column = schema()->columns[static_cast<size_t>(slot.output)];
    return rows_->RowError(ErrorKind::kSchema, "ETL-S142",
                           fmt::format("the value of key column {} was not sent", column.name),
                           "check that the replica identity covers the key, then resync the table");
  }

  void StartRow(Op op) {
    ops_.push_back(op);
    ordinals_.push_back(place_.position.ordinal);
    if (!unsent_.empty()) unsent_.resize(ops_.size() * static_cast<size_t>(unsent_words_));
    rows_->StartRow(place_);
  }

  Status AppendUnsent(const WireSlot& slot) {
    if (slot.key || schema()->identity == Identity::kFullRow) return NoKey(slot);
    const auto words = static_cast<size_t>(unsent_words_);
    if (unsent_.empty()) unsent_.resize(ops_.size() * words);
    const auto column = static_cast<size_t>(slot.output);
    unsent_[(ops_.size() - 1) * words + column / 64] |= uint64_t{1} << (column % 64);
    return rows_->AppendNull(slot);
  }

  static bool HasValue(const Cell& cell) { return cell.kind == 't' || cell.kind == 'b'; }

  // The cell that holds the value of an unsent one in the old row; null if there is none. An 'n'
  // there means absent: a NULL is never stored out of line, so it is never unsent.
  static const Cell* OldValue(const WireSlot& slot, const Cell& old_cell, char old_kind) {
    return (old_kind == 'O' || slot.key) && HasValue(old_cell) ? &old_cell : nullptr;
  }

  Status AppendRow(Op op, std::span<const Cell> row, std::span<const Cell> old_row, char old_kind) {
    StartRow(op);
    const std::vector<WireSlot>& slots = rows_->slots();
    for (size_t i = 0; i < slots.size(); ++i) {
      const WireSlot& slot = slots[i];
      if (slot.builder == nullptr) continue;
      const Cell* cell = &row[i];
      if (!HasValue(*cell)) {
        if (cell->kind == 'n') {
          if (slot.key) return NoKey(slot);
        } else {
          cell = old_kind == 0 ? nullptr : OldValue(slot, old_row[i], old_kind);
          if (cell == nullptr) {
            ETL_RETURN_IF_ERROR(AppendUnsent(slot));
            continue;
          }
        }
      }
      ETL_RETURN_IF_ERROR(rows_->Append(slot, *cell));
    }
    return Status::OK();
  }

  // With 'K' only the key is known: 'n' in other columns means absent.
  Status AppendDelete(std::span<const Cell> old_row, char old_kind) {
    StartRow(Op::kDelete);
    const std::vector<WireSlot>& slots = rows_->slots();
    for (size_t i = 0; i < slots.size(); ++i) {
      const WireSlot& slot = slots[i];
      if (slot.builder == nullptr) continue;
      if (slot.key && !HasValue(old_row[i])) return NoKey(slot);
      if (slot.key || old_kind == 'O') {
        ETL_RETURN_IF_ERROR(rows_->Append(slot, old_row[i]));
      } else {
        ETL_RETURN_IF_ERROR(rows_->AppendNull(slot));
      }
    }
    return Status::OK();
  }

  // An out-of-line key comes as 'K' though it is unchanged; then the new row does not send it, or
  // sends the same bytes.
  bool KeyChanges(std::span<const Cell> old_row, std::span<const Cell> row) const {
    const std::vector<WireSlot>& slots = rows_->slots();
    for (size_t i = 0; i < slots.size(); ++i) {
      if (!slots[i].key || row[i].kind == 'u') continue;
      if (row[i].kind != old_row[i].kind || row[i].bytes != old_row[i].bytes) return true;
    }
    return false;
  }

  // Rows since the last run belong to the transaction that was begun.
  void CloseRun() {
    const int64_t last = runs_.empty() ? 0 : runs_.back().end_row;
    if (rows() == last) return;
    run_.end_row = rows();
    runs_.push_back(run_);
  }

  std::unique_ptr<RowBuilder> rows_;
  const int unsent_words_;
  RowPlace place_;
  TransactionRun run_;
  std::vector<Op> ops_;
  std::vector<uint64_t> ordinals_;
  std::vector<TransactionRun> runs_;
  std::vector<uint64_t> unsent_;  // empty until a column of the batch is unsent
};

}  // namespace

Result<std::unique_ptr<TableBatcher>> TableBatcher::Make(TableSchemaPtr schema,
                                                         const BatchOptions* options) {
  ETL_ASSIGN_OR_RETURN(auto rows, RowBuilder::Make(std::move(schema), options));
  std::unique_ptr<TableBatcher> made = std::make_unique<Batcher>(std::move(rows));
  return made;
}

Result<std::shared_ptr<arrow::Array>> ValueFromText(const ColumnType& type, std::string_view text) {
  const std::unique_ptr<ColumnBuilder> builder = ColumnBuilder::Make(type);
  const CellResult result = builder->AppendText(text);
  if (result != CellResult::kOk) {
    ErrorParts parts;
    parts.code = IsUnrepresentable(result) ? "ETL-D140" : "ETL-D141";
    parts.what = "a default value of type " + type.name + " cannot be taken over";
    parts.why = std::string(ReasonOf(result));
    return MakeError(IsUnrepresentable(result) ? ErrorKind::kData : ErrorKind::kInternal,
                     std::move(parts));
  }
  return arrow::MakeArray(builder->Finish());
}

}  // namespace etl

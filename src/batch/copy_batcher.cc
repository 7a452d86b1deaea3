#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include <arrow/record_batch.h>
#include <fmt/format.h>

#include "base/byte_reader.h"
#include "batch/row_builder.h"
#include "batch/table_batcher.h"

namespace etl {
namespace {

constexpr std::string_view kSignature("PGCOPY\n\377\r\n\0", 11);
constexpr uint32_t kExtensionMax = 65536;  // no server sends any
constexpr size_t kCarryLeast = 512;

// The bytes of a COPY arrive cut anywhere. Whole rows are read where they lie; only a row that is
// cut is put together in `carry_`, from pieces that double, so that a row of any size is copied and
// looked at a bounded number of times.
class CopyBase : public CopyBatcher {
 public:
  explicit CopyBase(std::unique_ptr<RowBuilder> rows) : rows_(std::move(rows)) {}

  Status Append(std::string_view bytes) override {
    while (!carry_.empty() && !bytes.empty()) {
      const size_t held = carry_.size();
      const size_t take = std::min(bytes.size(), std::max(held, kCarryLeast));
      carry_.append(bytes.substr(0, take));
      size_t used = 0;
      ETL_RETURN_IF_ERROR(TakeOne(carry_, &used));
      if (used == 0) {
        bytes.remove_prefix(take);
        continue;
      }
      // Something was cut before, so its end lies in the new piece.
      bytes.remove_prefix(used - held);
      carry_.clear();
    }
    if (bytes.empty()) return Status::OK();
    size_t used = 0;
    ETL_RETURN_IF_ERROR(TakeAll(bytes, &used));
    carry_.assign(bytes.substr(used));
    return Status::OK();
  }

  int64_t rows() const override { return count_; }
  int64_t bytes() const override { return rows_->bytes() + static_cast<int64_t>(carry_.size()); }
  Result<std::shared_ptr<arrow::RecordBatch>> Seal() override {
    ETL_ASSIGN_OR_RETURN(auto batch, rows_->Finish(count_));
    count_ = 0;
    return batch;
  }

 protected:
  // Reads one thing (a row, the header) from the front; `used` stays 0 if it is not whole.
  virtual Status TakeOne(std::string_view bytes, size_t* used) = 0;

  Status TakeAll(std::string_view bytes, size_t* used) {
    for (size_t one = 1; one != 0 && *used != bytes.size(); *used += one) {
      one = 0;
      ETL_RETURN_IF_ERROR(TakeOne(bytes.substr(*used), &one));
    }
    return Status::OK();
  }
  void StartRow() {
    ++count_;
    rows_->StartRow(RowPlace{.position = {}, .copied_row = total_++});
  }
  Status Broken(std::string_view what) {
    rows_->StartRow(RowPlace{.position = {}, .copied_row = total_});
    return rows_->RowError(ErrorKind::kInternal, "ETL-P310", what);
  }
  int64_t nulled() const override { return rows_->nulled(); }
  RowBuilder& builder() { return *rows_; }
  const std::string& carry() const { return carry_; }

 private:
  std::unique_ptr<RowBuilder> rows_;
  std::string carry_;
  int64_t count_ = 0;  // since the last Seal
  int64_t total_ = 0;
};

class BinaryCopy final : public CopyBase {
 public:
  using CopyBase::CopyBase;

  Status Finish() override {
    if (state_ == State::kEnded && carry().empty()) return Status::OK();
    return Broken("the copy ended before its last row");
  }

 private:
  enum class State { kHeader, kRows, kEnded };

  Status TakeOne(std::string_view bytes, size_t* used) override {
    switch (state_) {
      case State::kHeader: return TakeHeader(bytes, used);
      case State::kRows: return TakeRow(bytes, used);
      case State::kEnded: break;
    }
    return Broken("bytes follow the end of the copy");
  }

  Status TakeHeader(std::string_view bytes, size_t* used) {
    const size_t known = std::min(bytes.size(), kSignature.size());
    if (bytes.substr(0, known) != kSignature.substr(0, known))
      return Broken("this is no COPY in binary form");
    ByteReader in(bytes);
    in.Bytes(kSignature.size());
    const uint32_t flags = in.U32();
    const uint32_t extension = in.U32();
    if (extension > kExtensionMax) return Broken("the COPY header is too long");
    in.Bytes(extension);
    if (in.failed()) return Status::OK();
    if (flags != 0) return Broken("the COPY header has flags that are not known");
    state_ = State::kRows;
    *used = bytes.size() - in.remaining();
    return Status::OK();
  }

  Status TakeRow(std::string_view bytes, size_t* used) {
    ByteReader in(bytes);
    const int count = in.I16();
    if (in.failed()) return Status::OK();
    if (count == -1) {
      state_ = State::kEnded;
      *used = 2;
      return Status::OK();
    }
    const std::vector<WireSlot>& slots = builder().slots();
    if (count != static_cast<int>(slots.size())) {
      return Broken(fmt::format("the row has {} columns, the table has {}", count, slots.size()));
    }
    cells_.resize(slots.size());
    for (Cell& cell : cells_) {
      const int32_t size = in.I32();
      if (size < -1) return Broken("a column has a negative length");
      cell.kind = size == -1 ? 'n' : 'b';
      cell.bytes = size == -1 ? std::string_view() : in.Bytes(static_cast<size_t>(size));
    }
    if (in.failed()) return Status::OK();  // the row is cut
    StartRow();
    for (size_t i = 0; i < slots.size(); ++i) {
      if (slots[i].builder != nullptr) ETL_RETURN_IF_ERROR(builder().Append(slots[i], cells_[i]));
    }
    *used = bytes.size() - in.remaining();
    return Status::OK();
  }

  State state_ = State::kHeader;
  std::vector<Cell> cells_;
};

// Rows are lines, columns are separated by tabs; both are escaped within values.
class TextCopy final : public CopyBase {
 public:
  using CopyBase::CopyBase;

  Status Finish() override {
    return carry().empty() ? Status::OK() : Broken("the copy ended before its last row");
  }

 private:
  Status TakeOne(std::string_view bytes, size_t* used) override {
    // A cut row was looked through before; only its new end is of interest.
    const size_t from = bytes.data() == carry().data() ? scanned_ : 0;
    const size_t end = bytes.find('\n', from);
    if (end == std::string_view::npos) {
      scanned_ = bytes.size();
      return Status::OK();
    }
    scanned_ = 0;
    *used = end + 1;
    return TakeRow(bytes.substr(0, end));
  }

  Status TakeRow(std::string_view line) {
    StartRow();
    const std::vector<WireSlot>& slots = builder().slots();
    size_t at = 0;
    for (size_t i = 0; i < slots.size(); ++i) {
      const bool last = i + 1 == slots.size();
      const size_t end = std::min(line.find('\t', at), line.size());
      if ((end == line.size()) != last)
        return Broken(fmt::format("the row does not have {} columns", slots.size()));
      if (slots[i].builder != nullptr)
        ETL_RETURN_IF_ERROR(TakeCell(slots[i], line.substr(at, end - at)));
      at = end + 1;
    }
    return Status::OK();
  }

  Status TakeCell(const WireSlot& slot, std::string_view field) {
    if (field.empty() || std::memchr(field.data(), '\\', field.size()) == nullptr) {
      return builder().Append(slot, Cell{'t', field});
    }
    if (field == "\\N") return builder().AppendNull(slot);
    if (!Unescape(field)) return Broken("a column ends within an escape");
    return builder().Append(slot, Cell{'t', scratch_});
  }

  bool Unescape(std::string_view field) {
    scratch_.clear();
    for (size_t at = 0; at < field.size();) {
      const size_t backslash = std::min(field.find('\\', at), field.size());
      scratch_.append(field.substr(at, backslash - at));
      if (backslash == field.size()) break;
      if (backslash + 1 == field.size()) return false;
      scratch_.push_back(Escaped(field[backslash + 1]));
      at = backslash + 2;
    }
    return true;
  }

  static char Escaped(char c) {
    switch (c) {
      case 'b': return '\b';
      case 'f': return '\f';
      case 'n': return '\n';
      case 'r': return '\r';
      case 't': return '\t';
      case 'v': return '\v';
      default: return c;
    }
  }

  std::string scratch_;
  size_t scanned_ = 0;
};

}  // namespace

Result<std::unique_ptr<CopyBatcher>> CopyBatcher::Make(TableSchemaPtr schema, bool binary,
                                                       const BatchOptions* options) {
  ETL_ASSIGN_OR_RETURN(auto rows, RowBuilder::Make(std::move(schema), options));
  std::unique_ptr<CopyBatcher> made;
  if (binary) {
    made = std::make_unique<BinaryCopy>(std::move(rows));
  } else {
    made = std::make_unique<TextCopy>(std::move(rows));
  }
  return made;
}

}  // namespace etl

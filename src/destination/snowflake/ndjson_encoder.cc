#include "destination/snowflake/ndjson_encoder.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <arrow/array/data.h>
#include <arrow/record_batch.h>
#include <arrow/type.h>
#include <fmt/format.h>

#include "base/check.h"
#include "base/log.h"
#include "destination/snowflake/json_escape.h"
#include "destination/snowflake/value_text.h"

namespace etl {
namespace {

// A line without its columns and without the names in _ETL_UNCHANGED.
constexpr size_t kLineMax = 256;

char* Copy(std::string_view text, char* at) {
  std::memcpy(at, text.data(), text.size());
  return at + text.size();
}

char OpLetter(Op op) {
  switch (op) {
    case Op::kInsert:
    case Op::kMove: return 'I';
    case Op::kUpdate: return 'U';
    case Op::kDelete: return 'D';
    case Op::kSnapshot: return 'R';
  }
  return 'I';
}

constexpr std::string_view kOpKey = R"({"_ETL_OP":")";
constexpr std::string_view kTimeKey = R"(,"_ETL_COMMIT_TS":")";
constexpr std::string_view kPositionKey = R"(,"_ETL_POSITION":")";
constexpr std::string_view kUnsentKey = R"(,"_ETL_UNCHANGED":[)";

}  // namespace

Result<std::unique_ptr<NdjsonEncoder>> NdjsonEncoder::Make(TableSchemaPtr schema,
                                                           std::vector<std::string> names,
                                                           OnUnrepresentable on_unrepresentable) {
  std::unique_ptr<NdjsonEncoder> made(new NdjsonEncoder(std::move(schema), on_unrepresentable));
  ETL_CHECK(names.size() == made->schema_->columns.size());
  made->sink_.margin = kLineMax;
  for (size_t i = 0; i < names.size(); ++i) ETL_RETURN_IF_ERROR(made->AddColumn(i, names[i]));
  for (const int key : made->schema_->key) made->columns_[static_cast<size_t>(key)].is_key = true;
  return made;
}

Status NdjsonEncoder::AddColumn(size_t index, const std::string& name) {
  Column& column = columns_.emplace_back();
  quoted_names_.push_back(JsonString(name));
  const std::string key = "," + quoted_names_.back() + ":";
  std::memset(column.key, 0, kKeyBlock);
  std::memcpy(column.key, key.data(), std::min(key.size(), kKeyBlock));
  column.key_size = key.size();
  if (key.size() > kKeyBlock) column.long_key = key;
  ETL_ASSIGN_OR_RETURN(column.value,
                       ValueEncoder::Make(*ArrowTypeOf(*schema_->columns[index].type)));
  sink_.margin += std::max(key.size(), kKeyBlock) + ValueEncoder::kFixedMax;
  return Status::OK();
}

Status NdjsonEncoder::Bind(const ChangeBatch& batch) {
  ETL_CHECK(batch.rows->num_rows() == batch.size());
  ETL_CHECK(batch.rows->num_columns() == static_cast<int>(columns_.size()));
  for (size_t i = 0; i < columns_.size(); ++i) {
    const auto& data = batch.rows->column_data(static_cast<int>(i));
    if (!data->type->Equals(*ArrowTypeOf(*schema_->columns[i].type))) {
      return MakeError(ErrorKind::kInternal, "ETL-D146",
                       fmt::format("{}: a batch has {} in column {}", schema_->QualifiedName(),
                                   data->type->ToString(), schema_->columns[i].name));
    }
    columns_[i].value->Bind(*data);
  }
  batch_ = &batch;
  run_ = 0;
  run_begin_ = run_end_ = 0;
  return Status::OK();
}

// Rows mostly come in order.
void NdjsonEncoder::SeekRun(int64_t row) {
  const std::vector<TransactionRun>& runs = batch_->transactions;
  run_ = row < run_begin_ ? 0 : run_;
  while (row >= runs[run_].end_row) {
    ++run_;
    ETL_CHECK(run_ < runs.size());
  }
  run_begin_ = run_ == 0 ? 0 : runs[run_ - 1].end_row;
  run_end_ = runs[run_].end_row;
  position_.commit = runs[run_].commit;
  head_ = MakeHead(runs[run_].commit, runs[run_].commit_time);
  engine_head_ = MakeHead(runs[run_].commit, 0);
}

NdjsonEncoder::Head NdjsonEncoder::MakeHead(Lsn commit, UnixMicros commit_time) {
  Head head;
  char* at = head.text;
  *at++ = '"';
  head.value_bytes = 1 + 33;
  if (commit_time != 0 && TimestampFits(commit_time)) {
    at = WriteTimestamp(commit_time, Copy(kTimeKey, at));
    at = Copy("Z\"", at);
    head.value_bytes += 27;
  }
  at = WriteHex64(commit.value, Copy(kPositionKey, at));
  *at++ = '/';
  head.size = static_cast<size_t>(at - head.text);
  return head;
}

// Everything up to the source's columns.
char* NdjsonEncoder::WriteHead(char op, const Head& head, char* at) {
  at = Copy(kOpKey, at);
  *at++ = op;
  std::memcpy(at, head.text, kHeadBlock);
  at = WriteHex64(position_.ordinal, at + head.size);
  *at++ = '"';
  value_bytes_ = head.value_bytes;
  return at;
}

Status NdjsonEncoder::AppendRow(int64_t row, std::span<const int> dropped, TextBuffer* out) {
  ETL_DCHECK(row >= 0 && row < batch_->size());
  if (row < run_begin_ || row >= run_end_) SeekRun(row);
  const Op op = batch_->ops[static_cast<size_t>(row)];
  position_.ordinal = batch_->ordinals[static_cast<size_t>(row)];
  sink_.out = out;
  const size_t begin = out->size();
  char* at = WriteHead(OpLetter(op), op == Op::kSnapshot ? engine_head_ : head_,
                       out->Reserve(sink_.margin));
  Status status;
  at = WriteColumns(row, dropped, at, &status);
  if (at == nullptr) [[unlikely]] {
    out->Truncate(begin);
    return status;
  }
  if (!batch_->unsent.empty()) at = WriteUnsent(row, at);
  at = Copy("}\n", at);
  out->SetEnd(at);
  return status;
}

char* NdjsonEncoder::WriteColumns(int64_t row, std::span<const int> dropped, char* at,
                                  Status* status) {
  int64_t value_bytes = 0;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    const auto number = static_cast<int>(i);
    if (column.value->IsNull(row) || std::ranges::count(dropped, number) > 0) continue;
    const auto begin = at - sink_.out->data();
    std::memcpy(at, column.key, kKeyBlock);
    if (column.key_size > kKeyBlock) [[unlikely]]
      Copy(column.long_key, at);
    at = column.value->Write(row, at + column.key_size, &sink_);
    if (at == nullptr) [[unlikely]] {
      // With something dropped the row is here for the second time, and was counted before.
      if (dropped.empty()) *status = Refuse(row, number, sink_.fault);
      if (!status->ok()) return nullptr;
      // The buffer may be another by now, with the same bytes in it.
      sink_.out->SetEnd(sink_.out->data() + begin);
      at = sink_.out->Reserve(sink_.margin);
      continue;
    }
    value_bytes += at - sink_.out->data() - begin - static_cast<int64_t>(column.key_size);
  }
  value_bytes_ += value_bytes;
  return at;
}

char* NdjsonEncoder::WriteUnsent(int64_t row, char* at) {
  bool any = false;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!batch_->Unsent(row, static_cast<int>(i))) continue;
    const std::string& name = quoted_names_[i];
    at = sink_.out->ReserveAt(at, kUnsentKey.size() + name.size() + kLineMax);
    at = any ? Copy(",", at) : Copy(kUnsentKey, at);
    at = Copy(name, at);
    value_bytes_ += static_cast<int64_t>(name.size());
    any = true;
  }
  return any ? Copy("]", at) : at;
}

void NdjsonEncoder::AppendTruncate(const TruncateChange& truncate, TextBuffer* out) {
  position_ = truncate.at;
  char* at =
      WriteHead('T', MakeHead(truncate.at.commit, truncate.commit_time), out->Reserve(kLineMax));
  out->SetEnd(Copy("}\n", at));
  // The position's LSN is another now than that of the batch's run.
  run_end_ = run_begin_;
}

Result<int> NdjsonEncoder::DropLargest(int64_t row, std::span<const int> dropped,
                                       const std::string& why) {
  TextBuffer cell;
  LineSink sink{.out = &cell, .margin = ValueEncoder::kFixedMax};
  int largest = -1;
  int64_t most = 0;
  for (size_t i = 0; i < columns_.size(); ++i) {
    const auto number = static_cast<int>(i);
    if (columns_[i].value->IsNull(row) || std::ranges::count(dropped, number) > 0) continue;
    cell.Truncate(0);
    const char* end = columns_[i].value->Write(row, cell.Reserve(2 * sink.margin), &sink);
    if (end == nullptr) continue;
    const int64_t size = end - cell.data();
    // A key column only if there is nothing else.
    const bool better = largest < 0 || columns_[static_cast<size_t>(largest)].is_key ||
                        (size > most && !columns_[i].is_key);
    if (!better) continue;
    largest = number;
    most = size;
  }
  if (largest < 0)
    return MakeError(ErrorKind::kInternal, "ETL-D146", "a row without columns: " + why);
  ETL_RETURN_IF_ERROR(Refuse(row, largest, fmt::format("{}; it has {} bytes there", why, most)));
  return largest;
}

// What becomes of a value that its column cannot hold.
Status NdjsonEncoder::Refuse(int64_t row, int column, std::string_view why) {
  Column& refused = columns_[static_cast<size_t>(column)];
  const etl::Column& described = schema_->columns[static_cast<size_t>(column)];
  const std::string place = batch_->ops[static_cast<size_t>(row)] == Op::kSnapshot
                                ? fmt::format("a copied row ({})", FormatPosition(position_))
                                : FormatPosition(position_);
  if (on_unrepresentable_ == OnUnrepresentable::kNull && !refused.is_key) {
    ++nulled_;
    if (refused.warned) return Status::OK();
    refused.warned = true;
    LogWarn(
        "a value cannot be represented and is stored as NULL; further ones in this column are "
        "only counted",
        {{"table", schema_->QualifiedName()},
         {"column", described.name},
         {"at", place},
         {"reason", why}});
    return Status::OK();
  }
  ErrorParts parts;
  parts.code = "ETL-D140";
  parts.what = fmt::format("{} at {}: a value of column {} ({}) cannot be represented",
                           schema_->QualifiedName(), place, described.name, described.type->name);
  parts.why = std::string(why);
  parts.safe = "everything before this row is kept; nothing is lost";
  parts.remedy = refused.is_key
                     ? "correct the value at the source; a key column is never stored as NULL"
                     : fmt::format(
                           "set on_unrepresentable: null, or exclude the column (columns: {}: "
                           "{{exclude: [{}]}}), or correct the value at the source",
                           schema_->QualifiedName(), described.name);
  return MakeError(ErrorKind::kData, std::move(parts));
}

}  // namespace etl

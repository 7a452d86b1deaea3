#include "apply/table_copy.h"

#include <algorithm>

#include <arrow/api.h>

#include "base/check.h"

namespace etl {
namespace {

// Rows of one reading are kept in memory until the stored position has passed its H.
constexpr int64_t kReadingBytes = int64_t{8} << 20;
constexpr int64_t kFirstKeys = 16;
constexpr int64_t kMoreKeys = 16;
constexpr int64_t kMostKeys = 10000;

}  // namespace

TableCopy TableCopy::Resume(const TableCheckpoint& checkpoint) {
  TableCopy copy(checkpoint.generation, checkpoint.from);
  if (!checkpoint.planned) return copy;
  copy.OnPlan(checkpoint.chunks);
  for (const TableCheckpoint::DoneChunk& done : checkpoint.done) {
    copy.OnChunkRead(done.number, done.high, done.rows);
    copy.OnChunkDurable(done.number);
  }
  return copy;
}

bool TableCopy::OnLockHolders(const std::vector<std::string>& holders) {
  ETL_CHECK(stage_ == Stage::kBarrier);
  if (!barrier_known_) {
    barrier_known_ = true;
    waiting_for_ = holders;
  } else {
    std::erase_if(waiting_for_, [&](const std::string& waited) {
      return std::find(holders.begin(), holders.end(), waited) == holders.end();
    });
  }
  if (!waiting_for_.empty()) return false;
  stage_ = Stage::kPlan;
  return true;
}

void TableCopy::OnPlan(std::vector<Chunk> chunks) {
  chunks_.clear();
  rows_estimate_ = 0;
  for (Chunk& chunk : chunks) {
    rows_estimate_ += chunk.rows_estimate;
    chunks_.push_back({.chunk = std::move(chunk)});
  }
  until_ = from_;
  stage_ = Stage::kRead;
  MaybeFold();
}

std::optional<Chunk> TableCopy::NextChunk() {
  if (stage_ != Stage::kRead) return std::nullopt;
  for (Entry& entry : chunks_) {
    if (entry.state != ChunkState::kTodo) continue;
    entry.state = ChunkState::kReading;
    return entry.chunk;
  }
  return std::nullopt;
}

void TableCopy::OnChunkAbandoned(uint32_t number) {
  ETL_CHECK(number < chunks_.size());
  if (chunks_[number].state == ChunkState::kReading) chunks_[number].state = ChunkState::kTodo;
}

void TableCopy::OnChunkRead(uint32_t number, Lsn high, int64_t rows) {
  ETL_CHECK(number < chunks_.size());
  chunks_[number].state = ChunkState::kRead;
  chunks_[number].rows = rows;
  rows_read_ += rows;
  until_ = std::max(until_, high);
}

void TableCopy::OnChunkDurable(uint32_t number) {
  ETL_CHECK(number < chunks_.size() && chunks_[number].state == ChunkState::kRead);
  chunks_[number].state = ChunkState::kDurable;
  MaybeFold();
}

void TableCopy::MaybeFold() {
  const bool all = std::all_of(chunks_.begin(), chunks_.end(), [](const Entry& entry) {
    return entry.state == ChunkState::kDurable;
  });
  if (all) stage_ = Stage::kFold;
}

void TableCopy::OnMissing(FoldResult missing) {
  missing_ = std::move(missing);
  settle_first_ = 0;
  settle_keys_ = std::min(kFirstKeys, missing_->missing_keys->num_rows());
  stage_ = Stage::kSettleWait;
}

std::shared_ptr<arrow::RecordBatch> TableCopy::KeysToRead() const {
  return missing_->missing_keys->Slice(settle_first_, settle_keys_);
}

void TableCopy::OnSettleReading(TableSchemaPtr schema) {
  stage_ = Stage::kSettleCatchUp;
  settle_schema_ = std::move(schema);
  settled_.clear();
  settled_bytes_ = 0;
  settle_high_.reset();
}

void TableCopy::OnSettledRows(std::shared_ptr<arrow::RecordBatch> rows, int64_t bytes) {
  settled_.push_back(std::move(rows));
  settled_bytes_ += bytes;
}

std::optional<SettledRows> TableCopy::NextSettled(const TableSchemaPtr& now) {
  if (settle_schema_ != now) {
    stage_ = Stage::kSettleRead;
    return std::nullopt;
  }
  std::optional<SettledRows> next;
  if (!settled_.empty()) {
    next = SettledRows{.table = missing_->table,
                       .generation = generation_,
                       .read_after = missing_->at,
                       .high = *settle_high_,
                       .rows = std::move(settled_.front())};
    settled_.pop_front();
  }
  if (settled_.empty()) OnKeysSettled();
  return next;
}

void TableCopy::OnKeysSettled() {
  settle_first_ += settle_keys_;
  const int64_t left = missing_->missing_keys->num_rows() - settle_first_;
  const int64_t each = std::max<int64_t>(settled_bytes_ / settle_keys_, 1);
  settle_keys_ = std::min(
      {left, settle_keys_ * kMoreKeys, std::clamp<int64_t>(kReadingBytes / each, 1, kMostKeys)});
  stage_ = left > 0 ? Stage::kSettleRead : Stage::kFold;
}

}  // namespace etl

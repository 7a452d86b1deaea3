#include "apply/table_copy.h"

#include <algorithm>

#include "base/check.h"

namespace etl {

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

bool TableCopy::ReadyToFold(Lsn durable) const {
  if (stage_ == Stage::kFold) return durable >= until_;
  return stage_ == Stage::kSettleCatchUp && settle_high_.has_value() && durable >= *settle_high_;
}

void TableCopy::OnMissing(FoldResult missing) {
  missing_ = std::move(missing);
  settle_high_.reset();
  stage_ = Stage::kSettleWait;
}

}  // namespace etl

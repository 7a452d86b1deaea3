#include "batch/transaction_log.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/byte_reader.h"
#include "base/check.h"

namespace etl {
namespace {

constexpr size_t kSmallestBlock = 4 << 10;
constexpr size_t kLargestBlock = 256 << 10;  // But for a message that is larger by itself.

// Stands before each message in a block.
struct RecordHeader {
  uint32_t size = 0;
  uint32_t subxid = 0;
};

}  // namespace

Status TransactionLog::Add(std::string_view message, uint64_t number) {
  ByteReader in(message);
  const char type = static_cast<char>(in.U8());
  const uint32_t subxid = in.U32();
  const std::string_view rest = in.rest();
  if (in.failed()) {
    return MakeError(ErrorKind::kInternal, "ETL-P301",
                     "the server sent a message of an open transaction that is too short");
  }
  const RecordHeader header{.size = static_cast<uint32_t>(rest.size() + 1), .subxid = subxid};
  const size_t needed = sizeof header + header.size;
  if (blocks_.empty() || blocks_.back().capacity() - blocks_.back().size() < needed) {
    // Blocks grow with the transaction, so that many small ones stay small.
    const size_t size =
        std::clamp(static_cast<size_t>(memory_bytes_), kSmallestBlock, kLargestBlock);
    blocks_.emplace_back().reserve(std::max(size, needed));
    memory_bytes_ += static_cast<int64_t>(blocks_.back().capacity());
    lease_.Resize(memory_bytes_);
  }
  std::string& block = blocks_.back();
  block.append(reinterpret_cast<const char*>(&header), sizeof header);
  block.push_back(type);
  block.append(rest);
  if (type == 'R') relation_numbers_.push_back(number);
  return Status::OK();
}

Status TransactionLog::Spill(const std::string& folder, ByteBudget* disk) {
  if (file_ == nullptr) {
    ETL_ASSIGN_OR_RETURN(file_, SpillFile::Make(folder, disk));
  }
  while (!blocks_.empty()) {
    ETL_RETURN_IF_ERROR(file_->Append(blocks_.front()));
    memory_bytes_ -= static_cast<int64_t>(blocks_.front().capacity());
    lease_.Resize(memory_bytes_);
    blocks_.pop_front();
  }
  return Status::OK();
}

Status TransactionLog::NextBlock() {
  at_ = 0;
  if (file_ != nullptr) {
    ETL_ASSIGN_OR_RETURN(const bool read, file_->Next(&current_));
    lease_.Resize(memory_bytes_ + static_cast<int64_t>(current_.capacity()));
    if (read) return Status::OK();
    file_.reset();
  }
  current_ = {};
  at_end_ = blocks_.empty();
  if (!at_end_) {
    current_ = std::move(blocks_.front());
    blocks_.pop_front();
    memory_bytes_ -= static_cast<int64_t>(current_.capacity());
  }
  lease_.Resize(memory_bytes_ + static_cast<int64_t>(current_.capacity()));
  return Status::OK();
}

Result<std::optional<std::string_view>> TransactionLog::Next() {
  if (at_ == current_.size()) ETL_RETURN_IF_ERROR(NextBlock());
  while (at_ < current_.size()) {
    RecordHeader header;
    ETL_CHECK(current_.size() - at_ > sizeof header);
    std::memcpy(&header, current_.data() + at_, sizeof header);
    at_ += sizeof header;
    ETL_CHECK(header.size > 0 && header.size <= current_.size() - at_);
    const std::string_view message = std::string_view(current_).substr(at_, header.size);
    at_ += header.size;
    if (message[0] == 'R') ++relations_read_;
    if (left_out_.empty() || !left_out_.contains(header.subxid)) return message;
  }
  return std::nullopt;
}

}  // namespace etl

#include "batch/open_transactions.h"

#include <algorithm>
#include <utility>

#include "base/log.h"

namespace etl {
namespace {

Status OutOfOrder(std::string_view what) {
  return MakeError(ErrorKind::kInternal, "ETL-X003", std::string(what));
}

}  // namespace

Status OpenTransactions::OpenBlock(uint32_t xid, bool first_segment) {
  if (block_ != nullptr) return OutOfOrder("a streamed block begins inside another");
  std::unique_ptr<TransactionLog>& log = logs_[xid];
  if (first_segment) {
    // An older one of this xid was forgotten by the server in a crash of its own.
    if (log != nullptr) memory_bytes_ -= log->memory_bytes();
    log = std::make_unique<TransactionLog>(memory_);
  }
  if (log == nullptr) return OutOfOrder("a streamed transaction goes on that has not begun");
  block_ = log.get();
  return Status::OK();
}

Status OpenTransactions::CloseBlock() {
  if (block_ == nullptr) return OutOfOrder("a streamed block ends that has not begun");
  block_ = nullptr;
  return Status::OK();
}

Status OpenTransactions::Add(std::string_view message, uint64_t number) {
  switch (message.empty() ? '\0' : message[0]) {
    case 'R':
    case 'I':
    case 'U':
    case 'D':
    case 'T': break;
    // Nothing is made of these. A message of pg_logical_emit_message must not be: it carries the
    // top-level xid, so that of a subtransaction that was rolled back cannot be told.
    case 'Y':
    case 'O':
    case 'M': return Status::OK();
    default: return OutOfOrder("a streamed block contains a message that has no place there");
  }
  const int64_t before = block_->memory_bytes();
  ETL_RETURN_IF_ERROR(block_->Add(message, number));
  if (block_->memory_bytes() == before) return Status::OK();
  memory_bytes_ += block_->memory_bytes() - before;
  return SpillWhatIsTooMuch();
}

// The largest goes first: few large writes, and small transactions, which most often end soon, stay
// in memory.
Status OpenTransactions::SpillWhatIsTooMuch() {
  const int64_t allowed =
      memory_->WouldExceed(0) ? options_.memory_bytes / 8 : options_.memory_bytes;
  while (memory_bytes_ > allowed) {
    const auto largest = std::max_element(logs_.begin(), logs_.end(), [](auto& a, auto& b) {
      return a.second->memory_bytes() < b.second->memory_bytes();
    });
    TransactionLog& log = *largest->second;
    const int64_t bytes = log.memory_bytes();
    if (log.spilled_bytes() == 0) {
      LogInfo("an open transaction is set aside on disk",
              {{"xid", largest->first}, {"folder", options_.spill_dir}});
    }
    ETL_RETURN_IF_ERROR(log.Spill(options_.spill_dir, options_.disk));
    memory_bytes_ -= bytes;
  }
  return Status::OK();
}

void OpenTransactions::Abort(uint32_t xid, uint32_t subxid) {
  const auto found = logs_.find(xid);
  if (found == logs_.end()) return;
  if (subxid != xid) return found->second->LeaveOut(subxid);
  memory_bytes_ -= found->second->memory_bytes();
  logs_.erase(found);
}

Result<std::unique_ptr<TransactionLog>> OpenTransactions::Commit(uint32_t xid) {
  const auto found = logs_.find(xid);
  if (found == logs_.end() || block_ != nullptr) {
    return OutOfOrder("a streamed transaction is committed that was not sent whole");
  }
  std::unique_ptr<TransactionLog> log = std::move(found->second);
  logs_.erase(found);
  memory_bytes_ -= log->memory_bytes();
  return log;
}

}  // namespace etl

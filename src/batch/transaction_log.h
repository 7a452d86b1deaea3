#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/status.h"
#include "batch/spill_file.h"
#include "runtime/byte_budget.h"

namespace etl {

/// The row messages of one transaction that was sent while it was open, in the order they came: in
/// memory, and what was spilled (always the older part) in a file. Filled by OpenTransactions, then
/// read once by the reader. One thread.
///
/// A message is kept as the bytes it would have had outside of streaming, with the subtransaction
/// it belongs to beside it. So reading gives exactly what the server sends of a transaction that is
/// not streamed.
class TransactionLog {
 public:
  explicit TransactionLog(ByteBudget* memory) : lease_(memory) {}

  /// `message` as it came in a streamed block: its type, then the subtransaction's xid, then the
  /// rest. `number` counts what came on the connection; it is kept for Relation messages.
  Status Add(std::string_view message, uint64_t number);
  /// What belongs to this subtransaction, so far, is left out by Next.
  void LeaveOut(uint32_t subxid) { left_out_.insert(subxid); }
  /// Moves what is in memory to the file.
  Status Spill(const std::string& folder, ByteBudget* disk);

  /// The next message that counts, valid until the next call. None: at the end, or after a bounded
  /// amount of work without one; `at_end` tells.
  Result<std::optional<std::string_view>> Next();
  bool at_end() const { return at_end_; }
  /// The number that the Relation message given last came with.
  uint64_t relation_number() const { return relation_numbers_[relations_read_ - 1]; }

  int64_t memory_bytes() const { return memory_bytes_; }
  int64_t spilled_bytes() const { return file_ == nullptr ? 0 : file_->bytes(); }

 private:
  Status NextBlock();

  std::deque<std::string> blocks_;
  int64_t memory_bytes_ = 0;  ///< of blocks_
  std::unique_ptr<SpillFile> file_;
  ByteLease lease_;
  std::unordered_set<uint32_t> left_out_;
  std::vector<uint64_t> relation_numbers_;

  std::string current_;  ///< the block that is being read
  size_t at_ = 0;
  bool at_end_ = false;
  size_t relations_read_ = 0;
};

}  // namespace etl

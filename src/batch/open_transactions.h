#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/status.h"
#include "batch/transaction_log.h"
#include "runtime/byte_budget.h"

namespace etl {

struct OpenTransactionsOptions {
  /// About as much is kept in memory; past it the largest transaction goes to disk.
  int64_t memory_bytes = 16 << 20;
  std::string spill_dir = "/var/tmp";
  ByteBudget* disk = nullptr;  ///< `limits.spill`; null: unbounded
};

/// Transactions that the server sends while they are still open (streaming of protocol 2): each is
/// kept apart by its top-level xid until it is committed, and dropped if it is rolled back, as is
/// what belongs to a subtransaction that is. Owned and called by the reader.
///
/// Nothing here counts for progress: a transaction that is open when the stream ends is sent again
/// from its start, so all of it goes with this object.
class OpenTransactions {
 public:
  OpenTransactions(OpenTransactionsOptions options, ByteBudget* memory)
      : options_(std::move(options)), memory_(memory) {}

  /// Stream Start and Stream Stop.
  Status OpenBlock(uint32_t xid, bool first_segment);
  Status CloseBlock();
  bool in_block() const { return block_ != nullptr; }
  /// A message inside a block, as it came. Only what changes rows or says how they look is kept.
  /// `number` counts what came on this connection.
  Status Add(std::string_view message, uint64_t number);
  /// Stream Abort: of the whole transaction, or of one subtransaction alone (nested ones have
  /// messages of their own).
  void Abort(uint32_t xid, uint32_t subxid);
  /// Stream Commit: hands over the transaction.
  Result<std::unique_ptr<TransactionLog>> Commit(uint32_t xid);

  int64_t memory_bytes() const { return memory_bytes_; }
  size_t size() const { return logs_.size(); }

 private:
  Status SpillWhatIsTooMuch();

  const OpenTransactionsOptions options_;
  ByteBudget* const memory_;
  std::unordered_map<uint32_t, std::unique_ptr<TransactionLog>> logs_;  ///< by top-level xid
  TransactionLog* block_ = nullptr;  ///< whose block is open; null: none is
  int64_t memory_bytes_ = 0;
};

}  // namespace etl

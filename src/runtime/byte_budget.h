#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace etl {

/// All memory for data of the process (`limits.memory`). Leases are taken before data is held and
/// travel with it. Safe from any thread.
class ByteBudget {
 public:
  explicit ByteBudget(int64_t limit) : limit_(limit) {}
  int64_t limit() const { return limit_; }
  int64_t used() const { return used_.load(std::memory_order_relaxed); }
  /// Whether `bytes` more would pass the limit.
  bool WouldExceed(int64_t bytes) const { return used() + bytes > limit_; }

 private:
  friend class ByteLease;
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

/// Bytes held of a budget; gives them back when it ends. Never refuses: the holder asks WouldExceed
/// before it takes more, so that what is already in hand can always be finished.
class ByteLease {
 public:
  ByteLease() = default;
  explicit ByteLease(ByteBudget* budget) : budget_(budget) {}
  ByteLease(ByteLease&& other) noexcept
      : budget_(other.budget_), bytes_(std::exchange(other.bytes_, 0)) {}
  ByteLease& operator=(ByteLease&& other) noexcept {
    if (this != &other) {
      Resize(0);
      budget_ = other.budget_;
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~ByteLease() { Resize(0); }
  void Resize(int64_t bytes) {
    if (budget_ != nullptr) budget_->used_.fetch_add(bytes - bytes_, std::memory_order_relaxed);
    bytes_ = bytes;
  }
  int64_t bytes() const { return bytes_; }

 private:
  ByteBudget* budget_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace etl

#pragma once

#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "runtime/event_fd.h"

namespace etl {

/// A bounded single-producer single-consumer ring that moves ownership; no mutex. TryPush wakes a
/// consumer that waits on `consumer_fd()`, TryPop a producer that waits on `producer_fd()`. A
/// thread that is about to wait calls `ClearConsumer`/`ClearProducer` first and looks once more:
/// notifications are never lost.
template <typename T>
class Channel {
 public:
  explicit Channel(size_t capacity) : slots_(capacity + 1) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  /// Producer. false: full, and `value` is untouched.
  bool TryPush(T& value) {
    const size_t tail = tail_.load(std::memory_order_relaxed);
    const size_t next = Next(tail);
    if (next == head_.load(std::memory_order_acquire)) return false;
    slots_[tail].emplace(std::move(value));
    tail_.store(next, std::memory_order_release);
    not_empty_.Notify();
    return true;
  }
  bool Full() const {
    return Next(tail_.load(std::memory_order_relaxed)) == head_.load(std::memory_order_acquire);
  }

  /// Consumer.
  std::optional<T> TryPop() {
    const size_t head = head_.load(std::memory_order_relaxed);
    if (head == tail_.load(std::memory_order_acquire)) return std::nullopt;
    std::optional<T> value = std::move(slots_[head]);
    slots_[head].reset();
    head_.store(Next(head), std::memory_order_release);
    not_full_.Notify();
    return value;
  }
  bool Empty() const {
    return head_.load(std::memory_order_acquire) == tail_.load(std::memory_order_acquire);
  }
  /// Entries at hand; exact for either end's own thread when the other is quiet.
  size_t Size() const {
    const size_t head = head_.load(std::memory_order_acquire);
    const size_t tail = tail_.load(std::memory_order_acquire);
    return tail >= head ? tail - head : tail + slots_.size() - head;
  }

  int consumer_fd() const { return not_empty_.fd(); }
  int producer_fd() const { return not_full_.fd(); }
  void ClearConsumer() { not_empty_.Clear(); }
  void ClearProducer() { not_full_.Clear(); }

 private:
  size_t Next(size_t index) const { return index + 1 == slots_.size() ? 0 : index + 1; }

  std::vector<std::optional<T>> slots_;
  alignas(64) std::atomic<size_t> head_{0};
  alignas(64) std::atomic<size_t> tail_{0};
  EventFd not_empty_;
  EventFd not_full_;
};

}  // namespace etl

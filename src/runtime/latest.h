#pragma once

#include <memory>
#include <mutex>
#include <utility>

namespace etl {

/// The newest value that one thread shows to others: an immutable snapshot behind a lock that is
/// held for the copy of a pointer. For status and outcomes, a few times a second; nothing on the
/// data path uses it. Any thread.
///
/// Not std::atomic<std::shared_ptr>: libstdc++ 12 lets go of its internal lock with relaxed order
/// after a load, which ThreadSanitizer reports as the data race that it is.
template <typename T>
class Latest {
 public:
  std::shared_ptr<const T> Load() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return value_;
  }
  void Store(std::shared_ptr<const T> value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    value_.swap(value);  // What was shown before goes after the lock.
  }
  /// Keeps the first value; false if there was one.
  bool StoreFirst(std::shared_ptr<const T> value) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (value_ != nullptr) return false;
    value_ = std::move(value);
    return true;
  }

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const T> value_;
};

}  // namespace etl

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

#include <arrow/buffer.h>
#include <arrow/memory_pool.h>

namespace etl {

/// Memory of an Arrow buffer that grows as values are appended and can be cut back to undo them.
/// One owner. Reserve first, then the unchecked calls.
template <typename T>
class GrowBuffer {
 public:
  /// Makes room for `more` values; false if there is no memory.
  bool Reserve(int64_t more) {
    if (size_ + more <= capacity_) [[likely]]
      return true;
    return Grow(more);
  }
  void UnsafePush(T value) { data_[size_++] = value; }
  void UnsafeAppend(const T* values, int64_t count) {
    std::memcpy(data_ + size_, values, static_cast<size_t>(count) * sizeof(T));
    size_ += count;
  }
  bool Push(T value) {
    if (!Reserve(1)) return false;
    UnsafePush(value);
    return true;
  }
  /// Where the next values go, after Reserve; then Advance.
  T* tail() { return data_ + size_; }
  void Advance(int64_t count) { size_ += count; }

  void Truncate(int64_t size) { size_ = std::min(size, size_); }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return size_; }
  int64_t capacity_bytes() const { return capacity_ * static_cast<int64_t>(sizeof(T)); }

  /// Hands the memory over and is empty afterwards. Never null.
  std::shared_ptr<arrow::Buffer> Finish() {
    std::shared_ptr<arrow::Buffer> done;
    if (buffer_ == nullptr) {
      // Not a null pointer, which some readers hand to memcpy even for nothing.
      static constexpr uint8_t kNothing[8] = {};
      done = std::make_shared<arrow::Buffer>(kNothing, 0);
    } else {
      // Never fails without shrinking.
      (void)buffer_->Resize(size_ * static_cast<int64_t>(sizeof(T)), /*shrink_to_fit=*/false);
      buffer_->ZeroPadding();
      done = std::move(buffer_);
    }
    *this = GrowBuffer();
    return done;
  }

 private:
  bool Grow(int64_t more) {
    constexpr int64_t kLeast = 1024 / static_cast<int64_t>(sizeof(T));
    const int64_t wanted = std::max({size_ + more, capacity_ * 2, kLeast});
    const int64_t wanted_bytes = wanted * static_cast<int64_t>(sizeof(T));
    if (buffer_ == nullptr) {
      auto made = arrow::AllocateResizableBuffer(wanted_bytes);
      if (!made.ok()) return false;
      buffer_ = std::move(made).ValueUnsafe();
    } else if (!buffer_->Resize(wanted_bytes, /*shrink_to_fit=*/false).ok()) {
      return false;
    }
    data_ = reinterpret_cast<T*>(buffer_->mutable_data());
    capacity_ = wanted;
    return true;
  }

  std::unique_ptr<arrow::ResizableBuffer> buffer_;
  T* data_ = nullptr;
  int64_t size_ = 0;
  int64_t capacity_ = 0;
};

}  // namespace etl

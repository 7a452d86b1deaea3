#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

namespace etl {

/// Bytes that grow at the end and are written without checks: reserve first, write through the
/// pointer, then tell where the writing ended. Memory is kept when it is cleared. One owner.
class TextBuffer {
 public:
  /// Makes room for `more` bytes behind the end and returns where they go.
  char* Reserve(size_t more) {
    if (capacity_ - size_ < more) [[unlikely]]
      Enlarge(more);
    return data_.get() + size_;
  }
  /// While writing at `at`: makes room for `more` bytes from there on, moving what was written.
  char* ReserveAt(char* at, size_t more) {
    if (static_cast<size_t>(data_.get() + capacity_ - at) >= more) [[likely]]
      return at;
    SetEnd(at);
    return Reserve(more);
  }
  void SetEnd(const char* end) { size_ = static_cast<size_t>(end - data_.get()); }
  void Append(std::string_view text) {
    char* out = Reserve(text.size());
    if (!text.empty()) std::memcpy(out, text.data(), text.size());
    size_ += text.size();
  }
  void Truncate(size_t size) { size_ = std::min(size, size_); }
  /// Empties it, and gives the memory back where it is more than `keep` bytes.
  void Clear(size_t keep) {
    size_ = 0;
    if (capacity_ <= keep) return;
    data_.reset();
    capacity_ = 0;
  }
  /// Removes the first `count` bytes.
  void DropFront(size_t count) {
    size_ -= count;
    if (size_ > 0) std::memmove(data_.get(), data_.get() + count, size_);
  }

  const char* data() const { return data_.get(); }
  size_t size() const { return size_; }
  size_t capacity() const { return capacity_; }
  std::string_view view() const { return {data_.get(), size_}; }
  std::string_view view(size_t begin) const { return view().substr(begin); }

 private:
  void Enlarge(size_t more) {
    const size_t wanted = std::max({size_ + more, capacity_ * 2, size_t{1024}});
    auto larger = std::make_unique_for_overwrite<char[]>(wanted);
    if (size_ > 0) std::memcpy(larger.get(), data_.get(), size_);
    data_ = std::move(larger);
    capacity_ = wanted;
  }

  std::unique_ptr<char[]> data_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace etl

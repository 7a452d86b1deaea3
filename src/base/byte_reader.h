#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace etl {

/// Reads big-endian fields from bytes that come from outside. A read past the end returns zero or
/// an empty view and sets `failed()`, which the caller looks at once after a group of reads. Never
/// allocates.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes)
      : at_(bytes.data()), end_(bytes.data() + bytes.size()) {}

  uint8_t U8() { return Read<uint8_t>(); }
  uint16_t U16() { return Read<uint16_t>(); }
  uint32_t U32() { return Read<uint32_t>(); }
  uint64_t U64() { return Read<uint64_t>(); }
  int16_t I16() { return static_cast<int16_t>(U16()); }
  int32_t I32() { return static_cast<int32_t>(U32()); }
  int64_t I64() { return static_cast<int64_t>(U64()); }

  std::string_view Bytes(size_t size) {
    if (size > remaining()) [[unlikely]] {
      Fail();
      return {};
    }
    std::string_view view(at_, size);
    at_ += size;
    return view;
  }
  /// A NUL-terminated string, without its NUL.
  std::string_view CString() {
    const void* nul = remaining() == 0 ? nullptr : std::memchr(at_, 0, remaining());
    if (nul == nullptr) [[unlikely]] {
      Fail();
      return {};
    }
    std::string_view view(at_, static_cast<size_t>(static_cast<const char*>(nul) - at_));
    at_ += view.size() + 1;
    return view;
  }

  size_t remaining() const { return static_cast<size_t>(end_ - at_); }
  std::string_view rest() const { return {at_, remaining()}; }
  bool failed() const { return failed_; }
  /// Every byte was read and none was missing.
  bool Finished() const { return !failed_ && at_ == end_; }
  void Fail() {
    failed_ = true;
    at_ = end_;
  }

 private:
  template <typename T>
  T Read() {
    if (sizeof(T) > remaining()) [[unlikely]] {
      Fail();
      return 0;
    }
    T value;
    std::memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
    if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
    if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
    return value;
  }

  const char* at_;
  const char* end_;
  bool failed_ = false;
};

}  // namespace etl

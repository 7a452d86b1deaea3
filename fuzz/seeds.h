#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t size_max);

namespace etl {

/// Bytes of hex digits; spaces are skipped.
inline std::string FromHex(std::string_view hex) {
  const auto value = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string bytes;
  int high = -1;
  for (const char c : hex) {
    if (c == ' ') continue;
    if (high < 0) {
      high = value(c);
    } else {
      bytes.push_back(static_cast<char>(high << 4 | value(c)));
      high = -1;
    }
  }
  return bytes;
}

/// A mutator that starts from one of `seeds` now and then, in place of a corpus on disk.
inline size_t MutateFromSeeds(std::span<const std::string> seeds, uint8_t* data, size_t size,
                              size_t size_max, unsigned chance) {
  if (size <= 1 || chance % 64 == 0) {
    const std::string& seed = seeds[chance / 64 % seeds.size()];
    if (seed.size() <= size_max) {
      size = seed.size();
      std::memcpy(data, seed.data(), size);
      if (chance % 128 == 0) return size;
    }
  }
  return LLVMFuzzerMutate(data, size, size_max);
}

}  // namespace etl

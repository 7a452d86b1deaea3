#include "decode/scalar.h"

#include <string>

#include <gtest/gtest.h>

namespace etl {
namespace {

std::string Encode(uint32_t point, int size) {
  static constexpr unsigned kLead[] = {0, 0, 0xc0, 0xe0, 0xf0};
  if (size == 1) return std::string(1, static_cast<char>(point));
  std::string out;
  for (int i = size - 1; i > 0; --i, point >>= 6)
    out.insert(out.begin(), static_cast<char>(0x80 | (point & 0x3f)));
  return static_cast<char>(kLead[size] | point) + out;
}

// First of all, so that it does not lean on what another library set up before.
TEST(Utf8, EveryCodePointInEveryLength) {
  for (uint32_t point = 0; point < 0x1fffff; ++point) {
    const int shortest = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    const bool scalar = point <= 0x10ffff && (point < 0xd800 || point > 0xdfff);
    for (int size = shortest; size <= 4; ++size) {
      ASSERT_EQ(IsUtf8(Encode(point, size)), scalar && size == shortest)
          << point << " in " << size << " bytes";
    }
  }
}

TEST(Utf8, CutsAndStrayBytesAreFoundAnywhere) {
  const std::string good = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80";
  for (size_t before = 0; before < 20; ++before) {
    const std::string prefix(before, 'a');
    EXPECT_TRUE(IsUtf8(prefix + good + prefix));
    EXPECT_FALSE(IsUtf8(prefix + good.substr(0, 1)));
    EXPECT_FALSE(IsUtf8(prefix + good.substr(0, 4) + prefix));
    EXPECT_FALSE(IsUtf8(prefix + good.substr(0, 8)));
    EXPECT_FALSE(IsUtf8(prefix + "\x80" + prefix));
    EXPECT_FALSE(IsUtf8(prefix + "\xff"));
  }
}

}  // namespace
}  // namespace etl

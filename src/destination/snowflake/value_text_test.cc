#include "destination/snowflake/value_text.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "destination/snowflake/json_escape.h"

namespace etl {
namespace {

template <typename Write, typename... Values>
std::string Text(Write write, Values... values) {
  char out[128];
  std::memset(out, '#', sizeof(out));
  return std::string(&out[0], write(values..., out));
}
std::string Float(double value) {
  char out[32];
  return std::string(&out[0], WriteFloat(value, out));
}
std::string Float4(float value) {
  char out[32];
  return std::string(&out[0], WriteFloat(value, out));
}
std::string DecimalText(int64_t high, uint64_t low, int scale) {
  return Text(WriteDecimal, Decimal{low, high}, scale);
}
std::string Uuid(std::string_view hex) {
  uint8_t bytes[16];
  for (size_t i = 0; i < 16; ++i)
    bytes[i] = static_cast<uint8_t>(std::stoi(std::string(hex.substr(2 * i, 2)), nullptr, 16));
  return Text(WriteUuid, static_cast<const uint8_t*>(bytes));
}

constexpr int64_t kHour = 3'600'000'000;

TEST(ValueText, DatesArePaddedToFourDigitsOfYear) {
  EXPECT_EQ(Text(WriteDate, 0), "1970-01-01");
  EXPECT_EQ(Text(WriteDate, -1), "1969-12-31");
  EXPECT_EQ(Text(WriteDate, kFirstDay), "0001-01-01");
  EXPECT_EQ(Text(WriteDate, kLastDay), "9999-12-31");
  EXPECT_EQ(Text(WriteDate, 11016), "2000-02-29");
  EXPECT_EQ(Text(WriteDate, -25509), "1900-02-28");
  EXPECT_EQ(Text(WriteDate, -25508), "1900-03-01");
}

TEST(ValueText, EveryDayFollowsTheOneBefore) {
  const auto leap = [](int y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; };
  int32_t day = kFirstDay;
  for (int year = 1; year <= 9999; ++year) {
    for (int month = 1; month <= 12; ++month) {
      const int lengths[] = {31, leap(year) ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
      char expected[48];
      std::snprintf(expected, sizeof(expected), "%04d-%02d-%02d", year, month, 1);
      ASSERT_EQ(Text(WriteDate, day), expected);
      day += lengths[month - 1];
    }
  }
  EXPECT_EQ(day, kLastDay + 1);
}

TEST(ValueText, TimestampsKeepSixDigitsOfSeconds) {
  EXPECT_EQ(Text(WriteTimestamp, int64_t{0}), "1970-01-01T00:00:00.000000");
  EXPECT_EQ(Text(WriteTimestamp, int64_t{-1}), "1969-12-31T23:59:59.999999");
  EXPECT_EQ(Text(WriteTimestamp, kFirstDay * kMicrosPerDay), "0001-01-01T00:00:00.000000");
  EXPECT_EQ(Text(WriteTimestamp, (int64_t{kLastDay} + 1) * kMicrosPerDay - 1),
            "9999-12-31T23:59:59.999999");
  EXPECT_TRUE(TimestampFits((int64_t{kLastDay} + 1) * kMicrosPerDay - 1));
  EXPECT_FALSE(TimestampFits((int64_t{kLastDay} + 1) * kMicrosPerDay));
  EXPECT_FALSE(TimestampFits(kFirstDay * kMicrosPerDay - 1));
  EXPECT_FALSE(TimestampFits(std::numeric_limits<int64_t>::max()));
  EXPECT_EQ(Text(WriteTime, 13 * kHour + 62'000'007), "13:01:02.000007");
  EXPECT_EQ(Text(WriteTime, 24 * kHour), "24:00:00.000000");
}

TEST(ValueText, DatesOutsideThoseYearsAreAsPostgresReadsThem) {
  constexpr int32_t kEnd = std::numeric_limits<int32_t>::max();
  constexpr int64_t kLongEnd = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(Text(WriteWideDate, kEnd), "infinity");
  EXPECT_EQ(Text(WriteWideDate, -kEnd), "-infinity");
  EXPECT_EQ(Text(WriteWideDate, kFirstDay - 1), "0001-12-31 BC");
  EXPECT_EQ(Text(WriteWideDate, kLastDay + 1), "10000-01-01");
  EXPECT_EQ(Text(WriteWideDate, kEnd - 1).substr(0, 7), "5881580");
  EXPECT_EQ(Text(WriteWideTimestamp, kLongEnd, true), "infinity");
  EXPECT_EQ(Text(WriteWideTimestamp, -kLongEnd, false), "-infinity");
  EXPECT_EQ(Text(WriteWideTimestamp, kFirstDay * kMicrosPerDay - 1, true),
            "0001-12-31 23:59:59.999999+00 BC");
  EXPECT_EQ(Text(WriteWideTimestamp, (int64_t{kLastDay} + 1) * kMicrosPerDay, false),
            "10000-01-01 00:00:00.000000");
  EXPECT_EQ(Text(WriteWideTimestamp, kLongEnd - 1, false), "294247-01-10 04:00:54.775806");
}

TEST(ValueText, FloatsAreTheShortestTextThatReadsBack) {
  EXPECT_EQ(Float(0.1), "0.1");
  EXPECT_EQ(Float(0), "0");
  EXPECT_EQ(Float(-0.0), "-0.0");
  EXPECT_EQ(Float(1e22), "1e+22");
  EXPECT_EQ(Float(5e-324), "5e-324");
  EXPECT_EQ(Float(std::numeric_limits<double>::max()), "1.7976931348623157e+308");
  EXPECT_EQ(Float(std::nan("")), "NaN");
  EXPECT_EQ(Float(-std::nan("")), "NaN");
  EXPECT_EQ(Float(HUGE_VAL), "Inf");
  EXPECT_EQ(Float(-HUGE_VAL), "-Inf");
  EXPECT_EQ(Float4(0.1f), "0.1");
  EXPECT_EQ(Float4(16777216.0f), "16777216");
}

TEST(ValueText, Float4ReadAsDoubleIsTheSameFloat4) {
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    const auto bits = static_cast<uint32_t>(random());
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) continue;
    ASSERT_EQ(static_cast<float>(std::stod(Float4(value))), value) << Float4(value);
  }
}

TEST(ValueText, DecimalsHaveEveryDigit) {
  EXPECT_EQ(DecimalText(0, 0, 0), "0");
  EXPECT_EQ(DecimalText(0, 0, 2), "0.00");
  EXPECT_EQ(DecimalText(0, 12340, 2), "123.40");
  EXPECT_EQ(DecimalText(-1, static_cast<uint64_t>(-5), 2), "-0.05");
  EXPECT_EQ(DecimalText(0, 5, 18), "0.000000000000000005");
  EXPECT_EQ(DecimalText(0, 5, 19), "0.0000000000000000005");
  EXPECT_EQ(DecimalText(0, 5, 38), "0.00000000000000000000000000000000000005");
  EXPECT_EQ(DecimalText(0, ~uint64_t{0}, 0), "18446744073709551615");
  EXPECT_EQ(DecimalText(1, 0, 0), "18446744073709551616");
  EXPECT_EQ(DecimalText(-1, 0, 4), "-1844674407370955.1616");
  // 10^38 - 1, negated.
  EXPECT_EQ(DecimalText(-0x4b3b4ca85a86c47b, 0xf675ddc000000001, 19),
            "-9999999999999999999.9999999999999999999");
}

TEST(ValueText, IntervalsAreIso8601WithASignForEachPart) {
  EXPECT_EQ(Text(WriteInterval, 0, 0, int64_t{0}), "PT0S");
  EXPECT_EQ(Text(WriteInterval, 14, 3, int64_t{14'706'789'000'000}), "P1Y2M3DT4H5M6.789S");
  EXPECT_EQ(Text(WriteInterval, -14, 3, int64_t{-14'706'789'000'000}), "P-1Y-2M3DT-4H-5M-6.789S");
  EXPECT_EQ(Text(WriteInterval, 0, 0, int64_t{-500'000}), "PT-0.0005S");
  EXPECT_EQ(Text(WriteInterval, 0, 0, int64_t{60'000'000'000}), "PT1M");
  EXPECT_EQ(Text(WriteInterval, 12, 0, int64_t{0}), "P1Y");
  constexpr int32_t kMost = std::numeric_limits<int32_t>::min();
  EXPECT_EQ(Text(WriteInterval, kMost, kMost, std::numeric_limits<int64_t>::min()),
            "P-178956970Y-8M-2147483648DT-2562047H-47M-16.854775808S");
}

TEST(ValueText, BytesAreHexOrBase64) {
  EXPECT_EQ(Uuid("a0eebc999c0b4ef8bb6d6bb9bd380a11"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11");
  EXPECT_EQ(Text(WriteHex64, uint64_t{0x16b3748}), "00000000016b3748");
  const auto base64 = [](std::string_view bytes) { return Text(WriteBase64, bytes); };
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foob"), "Zm9vYg==");
  EXPECT_EQ(base64(std::string("\x00\xff\x10", 3)), "AP8Q");
}

TEST(JsonEscape, EscapesWhatJsonRequiresAndNothingElse) {
  EXPECT_EQ(JsonString(""), R"("")");
  EXPECT_EQ(JsonString("a\"b\\c/d"), R"("a\"b\\c/d")");
  EXPECT_EQ(JsonString(std::string("\0\x01\b\t\n\v\f\r\x1f\x7f", 10)),
            "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\"");
  EXPECT_EQ(JsonString("grüße \U0001f600"), "\"grüße \U0001f600\"");
}

TEST(JsonEscape, BothWaysOfScanningAgreeAtEveryLengthAndOffset) {
  std::mt19937 random(1);
  const std::string alphabet("abcdefg\"\\\n\x01\x1f \x7f\x80\xff", 16);
  for (int round = 0; round < 20'000; ++round) {
    std::string text(random() % 80, 'x');
    const size_t density = random() % 20 + 1;
    for (char& c : text) {
      if (random() % density == 0) c = alphabet[random() % alphabet.size()];
    }
    // In memory of exactly its size, for the sanitizers.
    const auto exact = std::make_unique<char[]>(text.size() + 1);
    std::memcpy(exact.get(), text.data(), text.size());
    std::string vector(EscapedMax(text.size()), '#');
    std::string portable(EscapedMax(text.size()), '#');
    const std::string_view view(exact.get(), text.size());
    vector.resize(static_cast<size_t>(WriteEscaped(view, vector.data()) - vector.data()));
    portable.resize(
        static_cast<size_t>(WriteEscapedPortable(view, portable.data()) - portable.data()));
    ASSERT_EQ(vector, portable);
  }
}

}  // namespace
}  // namespace etl

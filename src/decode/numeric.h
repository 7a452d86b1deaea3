#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "decode/cell_result.h"

namespace etl {

/// A decimal128 as one integer: its value times 10^scale.
using Int128 = __int128;

/// The fields of a binary numeric, checked: value = sign · Σ digit[i] · 10000^(weight - i).
struct NumericView {
  enum class Sign : uint8_t { kPositive, kNegative, kNotANumber, kInfinity, kNegativeInfinity };
  Sign sign = Sign::kPositive;
  int weight = 0;
  int display_scale = 0;
  int digit_count = 0;
  const char* digits = nullptr;  ///< big-endian 16-bit groups, each below 10000

  bool special() const { return sign > Sign::kNegative; }
  /// Group `i`; 0 outside of what was sent.
  unsigned Digit(int i) const {
    if (i < 0 || i >= digit_count) return 0;
    return static_cast<unsigned>(static_cast<unsigned char>(digits[2 * i]) << 8 |
                                 static_cast<unsigned char>(digits[2 * i + 1]));
  }
};

CellResult ParseNumericBinary(std::string_view bytes, NumericView* out);

/// The value as numeric(precision, scale), precision <= 38. kDigits if a digit would be lost.
CellResult NumericToDecimal(const NumericView& value, int precision, int scale, Int128* out);
CellResult DecimalFromText(std::string_view text, int precision, int scale, Int128* out);

/// An upper bound of the length of the value's text.
size_t NumericTextBound(const NumericView& value);
/// Writes the text as the server prints it and returns its end.
char* WriteNumericText(const NumericView& value, char* out);

}  // namespace etl

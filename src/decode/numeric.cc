#include "decode/numeric.h"

#include <array>
#include <cstring>

#include "base/byte_reader.h"

namespace etl {
namespace {

using Uint128 = unsigned __int128;

constexpr int kDisplayScaleMax = 0x3fff;
constexpr int kGroupDigits = 4;

constexpr std::array<Uint128, 39> MakePowers() {
  std::array<Uint128, 39> powers{};
  Uint128 power = 1;
  for (auto& entry : powers) {
    entry = power;
    power *= 10;
  }
  return powers;
}
constexpr std::array<Uint128, 39> kPowers = MakePowers();

CellResult Finish(Uint128 magnitude, bool negative, int precision, Int128* out) {
  if (magnitude >= kPowers[static_cast<size_t>(precision)]) return CellResult::kDigits;
  const auto value = static_cast<Int128>(magnitude);
  *out = negative ? -value : value;
  return CellResult::kOk;
}

// magnitude * 10^exponent; false if it does not fit.
bool Scale(Uint128 magnitude, int exponent, Uint128* out) {
  if (magnitude == 0) {
    *out = 0;
    return true;
  }
  if (exponent > 38) return false;
  return !__builtin_mul_overflow(magnitude, kPowers[static_cast<size_t>(exponent)], out);
}

// The general way, group by group; the last groups may lie partly or wholly behind the scale.
CellResult LongDecimal(const NumericView& value, int precision, int scale, Int128* out) {
  Uint128 sum = 0;
  int exponent = kGroupDigits * (value.weight + 1) + scale;  // of the unit of `sum`
  for (int i = 0; i < value.digit_count; ++i) {
    const unsigned digit = value.Digit(i);
    if (exponent <= 0) {
      if (digit != 0) return CellResult::kDigits;
      continue;
    }
    const int take = exponent < kGroupDigits
                         ? exponent
                         : kGroupDigits;  // decimal digits of this group before the end
    const auto drop = static_cast<unsigned>(kPowers[static_cast<size_t>(kGroupDigits - take)]);
    if (digit % drop != 0) return CellResult::kDigits;
    if (__builtin_mul_overflow(sum, kPowers[static_cast<size_t>(take)], &sum) ||
        __builtin_add_overflow(sum, Uint128{digit / drop}, &sum)) {
      return CellResult::kDigits;
    }
    exponent -= take;
  }
  if (exponent > 0 && !Scale(sum, exponent, &sum)) return CellResult::kDigits;
  return Finish(sum, value.sign == NumericView::Sign::kNegative, precision, out);
}

// Appends the four digits of a group.
char* PutGroup(char* out, unsigned group) {
  out[0] = static_cast<char>('0' + group / 1000);
  out[1] = static_cast<char>('0' + group / 100 % 10);
  out[2] = static_cast<char>('0' + group / 10 % 10);
  out[3] = static_cast<char>('0' + group % 10);
  return out + kGroupDigits;
}

char* PutLeadingGroup(char* out, unsigned group) {
  if (group >= 1000) *out++ = static_cast<char>('0' + group / 1000);
  if (group >= 100) *out++ = static_cast<char>('0' + group / 100 % 10);
  if (group >= 10) *out++ = static_cast<char>('0' + group / 10 % 10);
  *out++ = static_cast<char>('0' + group % 10);
  return out;
}

char* Put(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

CellResult SpecialText(std::string_view text) {
  if (text == "NaN") return CellResult::kNotANumber;
  if (text == "Infinity" || text == "-Infinity") return CellResult::kInfinite;
  return CellResult::kMalformed;
}

}  // namespace

CellResult ParseNumericBinary(std::string_view bytes, NumericView* out) {
  ByteReader in(bytes);
  const int count = in.I16();
  const int weight = in.I16();
  const unsigned sign = in.U16();
  const int display_scale = in.U16();
  if (in.failed() || count < 0 || in.remaining() != 2 * static_cast<size_t>(count))
    return CellResult::kMalformed;
  switch (sign) {
    case 0x0000: out->sign = NumericView::Sign::kPositive; break;
    case 0x4000: out->sign = NumericView::Sign::kNegative; break;
    case 0xC000: out->sign = NumericView::Sign::kNotANumber; break;
    case 0xD000: out->sign = NumericView::Sign::kInfinity; break;
    case 0xF000: out->sign = NumericView::Sign::kNegativeInfinity; break;
    default: return CellResult::kMalformed;
  }
  if (out->special()) {
    out->digit_count = 0;
    return CellResult::kOk;
  }
  if (display_scale > kDisplayScaleMax) return CellResult::kMalformed;
  out->weight = weight;
  out->display_scale = display_scale;
  out->digit_count = count;
  out->digits = in.rest().data();
  for (int i = 0; i < count; ++i) {
    if (out->Digit(i) >= 10000) return CellResult::kMalformed;
  }
  return CellResult::kOk;
}

CellResult NumericToDecimal(const NumericView& value, int precision, int scale, Int128* out) {
  if (value.special()) {
    return value.sign == NumericView::Sign::kNotANumber ? CellResult::kNotANumber
                                                        : CellResult::kInfinite;
  }
  // Up to four groups fit 64 bits, and a usual value ends within its scale.
  const int exponent = kGroupDigits * (value.weight + 1 - value.digit_count) + scale;
  if (value.digit_count > 4 || exponent <= -kGroupDigits || exponent > 18) {
    return LongDecimal(value, precision, scale, out);
  }
  uint64_t sum = 0;
  for (int i = 0; i < value.digit_count; ++i) sum = sum * 10000 + value.Digit(i);
  const bool negative = value.sign == NumericView::Sign::kNegative;
  if (exponent >= 0) {
    return Finish(Uint128{sum} * static_cast<uint64_t>(kPowers[static_cast<size_t>(exponent)]),
                  negative, precision, out);
  }
  const auto drop = static_cast<uint64_t>(kPowers[static_cast<size_t>(-exponent)]);
  if (sum % drop != 0) return CellResult::kDigits;
  return Finish(sum / drop, negative, precision, out);
}

CellResult DecimalFromText(std::string_view text, int precision, int scale, Int128* out) {
  const char* at = text.data();
  const char* end = at + text.size();
  const bool negative = at != end && *at == '-';
  if (negative) ++at;
  if (at == end || static_cast<unsigned char>(*at - '0') > 9) return SpecialText(text);
  Uint128 sum = 0;
  uint64_t part = 0;  // up to 18 digits at a time in 64 bits
  int part_digits = 0;
  bool fits = true;
  const auto flush = [&] {
    fits = fits && !__builtin_mul_overflow(sum, kPowers[static_cast<size_t>(part_digits)], &sum) &&
           !__builtin_add_overflow(sum, Uint128{part}, &sum);
    part = 0;
    part_digits = 0;
  };
  bool fraction = false;
  int fraction_digits = 0;
  bool lost = false;
  for (; at != end; ++at) {
    const unsigned digit = static_cast<unsigned char>(*at) - unsigned{'0'};
    if (digit > 9) {
      if (*at != '.' || fraction || at + 1 == end) return CellResult::kMalformed;
      fraction = true;
      continue;
    }
    if (fraction && fraction_digits == scale) {  // behind the scale only zeros may follow
      lost = lost || digit != 0;
      continue;
    }
    fraction_digits += fraction ? 1 : 0;
    part = part * 10 + digit;
    if (++part_digits == 18) flush();
  }
  flush();
  if (!fits || lost || !Scale(sum, scale - fraction_digits, &sum)) return CellResult::kDigits;
  return Finish(sum, negative, precision, out);
}

size_t NumericTextBound(const NumericView& value) {
  const int before = value.weight < 0 ? 1 : (value.weight + 1) * kGroupDigits;
  // A sign or a special word, the point, and a last group that may pass the scale before it is cut.
  return static_cast<size_t>(before) + static_cast<size_t>(value.display_scale) + 16;
}

char* WriteNumericText(const NumericView& value, char* out) {
  switch (value.sign) {
    case NumericView::Sign::kNotANumber: return Put(out, "NaN");
    case NumericView::Sign::kInfinity: return Put(out, "Infinity");
    case NumericView::Sign::kNegativeInfinity: return Put(out, "-Infinity");
    case NumericView::Sign::kNegative: *out++ = '-'; break;
    case NumericView::Sign::kPositive: break;
  }
  if (value.weight < 0) {
    *out++ = '0';
  } else {
    out = PutLeadingGroup(out, value.Digit(0));
    for (int i = 1; i <= value.weight; ++i) out = PutGroup(out, value.Digit(i));
  }
  if (value.display_scale == 0) return out;
  *out++ = '.';
  char* const end = out + value.display_scale;
  for (int i = value.weight + 1; out < end; ++i) out = PutGroup(out, value.Digit(i));
  return end;
}

}  // namespace etl

#include "decode/scalar.h"

#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace etl {
namespace {

template <typename T>
CellResult IntFromText(std::string_view text, T* out) {
  const char* at = text.data();
  const char* end = at + text.size();
  bool negative = false;
  if (at != end && *at == '-') {
    if constexpr (std::is_unsigned_v<T>) return CellResult::kMalformed;
    negative = true;
    ++at;
  }
  const auto digits = end - at;
  if (digits < 1 || digits > 19)
    return CellResult::kMalformed;  // 19 digits fit 64 bits without a sign
  uint64_t value = 0;
  for (; at != end; ++at) {
    const unsigned digit = static_cast<unsigned char>(*at) - unsigned{'0'};
    if (digit > 9) return CellResult::kMalformed;
    value = value * 10 + digit;
  }
  const uint64_t limit = static_cast<uint64_t>(std::numeric_limits<T>::max()) + (negative ? 1 : 0);
  if (value > limit) return CellResult::kMalformed;
  *out = static_cast<T>(negative ? ~value + 1 : value);
  return CellResult::kOk;
}

template <typename T>
T Load(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}

template <typename T>
CellResult IntFromBinary(std::string_view bytes, T* out) {
  if (bytes.size() != sizeof(T)) return CellResult::kMalformed;
  *out = static_cast<T>(Load<std::make_unsigned_t<T>>(bytes.data()));
  return CellResult::kOk;
}

template <typename T>
CellResult FloatFromText(std::string_view text, T* out) {
  if (text.empty()) return CellResult::kMalformed;
  const char last = text.back();
  if (last < '0' || last > '9') {  // no number ends in anything but a digit
    if (text == "NaN") {
      *out = std::numeric_limits<T>::quiet_NaN();
    } else if (text == "Infinity") {
      *out = std::numeric_limits<T>::infinity();
    } else if (text == "-Infinity") {
      *out = -std::numeric_limits<T>::infinity();
    } else {
      return CellResult::kMalformed;
    }
    return CellResult::kOk;
  }
  T value;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return CellResult::kMalformed;
  *out = value;
  return CellResult::kOk;
}

template <typename T, typename Bits>
CellResult FloatFromBinary(std::string_view bytes, T* out) {
  if (bytes.size() != sizeof(T)) return CellResult::kMalformed;
  const T value = std::bit_cast<T>(Load<Bits>(bytes.data()));
  *out = std::isnan(value) ? std::numeric_limits<T>::quiet_NaN() : value;
  return CellResult::kOk;
}

constexpr uint8_t kNoHex = 0xff;
constexpr std::array<uint8_t, 256> MakeHexTable() {
  std::array<uint8_t, 256> table{};
  for (auto& entry : table) entry = kNoHex;
  for (unsigned i = 0; i < 10; ++i) table['0' + i] = static_cast<uint8_t>(i);
  for (unsigned i = 0; i < 6; ++i) {
    table['a' + i] = static_cast<uint8_t>(10 + i);
    table['A' + i] = static_cast<uint8_t>(10 + i);
  }
  return table;
}
constexpr std::array<uint8_t, 256> kHex = MakeHexTable();

// Decodes `count` bytes; false if a character is no hex digit.
bool DecodeHex(const char* text, size_t count, uint8_t* out) {
  unsigned bad = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t high = kHex[static_cast<unsigned char>(text[2 * i])];
    const uint8_t low = kHex[static_cast<unsigned char>(text[2 * i + 1])];
    bad |= (high | low) & 0xf0u;
    out[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return bad == 0;
}

bool IsContinuation(unsigned char byte) { return (byte & 0xc0) == 0x80; }

// Well-formed byte sequences of the Unicode standard, table 3-7: nothing overlong, no surrogates,
// nothing past U+10FFFF.
bool IsMultiByteUtf8(const unsigned char* at, const unsigned char* end) {
  while (at != end) {
    const unsigned char lead = *at;
    if (lead < 0x80) {
      ++at;
      continue;
    }
    const auto left = end - at;
    if (lead < 0xc2 || lead > 0xf4) return false;
    if (lead < 0xe0) {
      if (left < 2 || !IsContinuation(at[1])) return false;
      at += 2;
    } else if (lead < 0xf0) {
      if (left < 3 || !IsContinuation(at[1]) || !IsContinuation(at[2])) return false;
      if ((lead == 0xe0 && at[1] < 0xa0) || (lead == 0xed && at[1] > 0x9f)) return false;
      at += 3;
    } else {
      if (left < 4 || !IsContinuation(at[1]) || !IsContinuation(at[2]) || !IsContinuation(at[3]))
        return false;
      if ((lead == 0xf0 && at[1] < 0x90) || (lead == 0xf4 && at[1] > 0x8f)) return false;
      at += 4;
    }
  }
  return true;
}

size_t WriteChar(unsigned char byte, char* out) {
  if (byte == 0) return 0;
  if (byte < 0x80) {
    out[0] = static_cast<char>(byte);
    return 1;
  }
  out[0] = '\\';
  out[1] = static_cast<char>('0' + (byte >> 6));
  out[2] = static_cast<char>('0' + (byte >> 3 & 7));
  out[3] = static_cast<char>('0' + (byte & 7));
  return 4;
}

}  // namespace

CellResult ParseBoolText(std::string_view text, bool* out) {
  if (text.size() != 1 || (text[0] != 't' && text[0] != 'f')) return CellResult::kMalformed;
  *out = text[0] == 't';
  return CellResult::kOk;
}

CellResult ParseBoolBinary(std::string_view bytes, bool* out) {
  if (bytes.size() != 1 || static_cast<unsigned char>(bytes[0]) > 1) return CellResult::kMalformed;
  *out = bytes[0] != 0;
  return CellResult::kOk;
}

CellResult ParseIntText(std::string_view text, int16_t* out) { return IntFromText(text, out); }
CellResult ParseIntText(std::string_view text, int32_t* out) { return IntFromText(text, out); }
CellResult ParseIntText(std::string_view text, int64_t* out) { return IntFromText(text, out); }
CellResult ParseIntText(std::string_view text, uint32_t* out) { return IntFromText(text, out); }
CellResult ParseIntBinary(std::string_view bytes, int16_t* out) {
  return IntFromBinary(bytes, out);
}
CellResult ParseIntBinary(std::string_view bytes, int32_t* out) {
  return IntFromBinary(bytes, out);
}
CellResult ParseIntBinary(std::string_view bytes, int64_t* out) {
  return IntFromBinary(bytes, out);
}
CellResult ParseIntBinary(std::string_view bytes, uint32_t* out) {
  return IntFromBinary(bytes, out);
}

CellResult ParseFloatText(std::string_view text, float* out) { return FloatFromText(text, out); }
CellResult ParseFloatText(std::string_view text, double* out) { return FloatFromText(text, out); }
CellResult ParseFloatBinary(std::string_view bytes, float* out) {
  return FloatFromBinary<float, uint32_t>(bytes, out);
}
CellResult ParseFloatBinary(std::string_view bytes, double* out) {
  return FloatFromBinary<double, uint64_t>(bytes, out);
}

CellResult ParseUuidText(std::string_view text, uint8_t* out) {
  if (text.size() != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' ||
      text[23] != '-') {
    return CellResult::kMalformed;
  }
  uint8_t value[16];
  const char* at = text.data();
  const bool good = DecodeHex(at, 4, value) && DecodeHex(at + 9, 2, value + 4) &&
                    DecodeHex(at + 14, 2, value + 6) && DecodeHex(at + 19, 2, value + 8) &&
                    DecodeHex(at + 24, 6, value + 10);
  if (!good) return CellResult::kMalformed;
  std::memcpy(out, value, sizeof(value));
  return CellResult::kOk;
}

CellResult ParseByteaHex(std::string_view text, uint8_t* out) {
  return DecodeHex(text.data() + 2, (text.size() - 2) / 2, out) ? CellResult::kOk
                                                                : CellResult::kMalformed;
}

CellResult ParseCharText(std::string_view text, char* out, size_t* size) {
  if (text.empty()) {
    *size = 0;
    return CellResult::kOk;
  }
  if (text.size() == 1) {  // older servers send a byte above 0x7f as it is
    *size = WriteChar(static_cast<unsigned char>(text[0]), out);
    return CellResult::kOk;
  }
  if (text.size() != 4 || text[0] != '\\' || text[1] < '2' || text[1] > '3')
    return CellResult::kMalformed;
  for (size_t i = 2; i < 4; ++i) {
    if (text[i] < '0' || text[i] > '7') return CellResult::kMalformed;
  }
  std::memcpy(out, text.data(), 4);
  *size = 4;
  return CellResult::kOk;
}

CellResult ParseCharBinary(std::string_view bytes, char* out, size_t* size) {
  if (bytes.size() != 1) return CellResult::kMalformed;
  *size = WriteChar(static_cast<unsigned char>(bytes[0]), out);
  return CellResult::kOk;
}

CellResult ParseJsonbBinary(std::string_view bytes, std::string_view* out) {
  if (bytes.empty() || bytes[0] != 1) return CellResult::kMalformed;
  *out = bytes.substr(1);
  return CellResult::kOk;
}

bool IsUtf8(std::string_view text) {
  const char* at = text.data();
  const char* end = at + text.size();
  uint64_t high = 0;
  for (; end - at >= 8; at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    high |= word;
  }
  for (; at != end; ++at) high |= static_cast<unsigned char>(*at);
  // A byte of the tail only sets the lowest byte's bit.
  if ((high & 0x8080808080808080u) == 0) [[likely]]
    return true;
  return IsMultiByteUtf8(reinterpret_cast<const unsigned char*>(text.data()),
                         reinterpret_cast<const unsigned char*>(end));
}

void WriteHex(std::string_view bytes, char* out) {
  static constexpr char kDigits[] = "0123456789abcdef";
  for (const char byte : bytes) {
    *out++ = kDigits[static_cast<unsigned char>(byte) >> 4];
    *out++ = kDigits[byte & 15];
  }
}

}  // namespace etl

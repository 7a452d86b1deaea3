#include "destination/snowflake/json_escape.h"

#include <bit>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace etl {
namespace {

constexpr bool NeedsEscape(unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; }

char* WriteEscape(unsigned char c, char* out) {
  static constexpr char kHex[] = "0123456789abcdef";
  *out++ = '\\';
  switch (c) {
    case '"':
    case '\\': *out++ = static_cast<char>(c); return out;
    case '\b': *out++ = 'b'; return out;
    case '\f': *out++ = 'f'; return out;
    case '\n': *out++ = 'n'; return out;
    case '\r': *out++ = 'r'; return out;
    case '\t': *out++ = 't'; return out;
    default: break;
  }
  std::memcpy(out, "u00", 3);
  out[3] = kHex[c >> 4];
  out[4] = kHex[c & 15];
  return out + 5;
}

#ifdef __SSE2__

template <typename T>
T Load(const char* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

// The `size` < 16 bytes from `from`, then zeros, without reading past them.
__m128i LoadPartial(const char* from, size_t size) {
  uint64_t low = 0;
  uint64_t high = 0;
  if (size >= 8) {
    low = Load<uint64_t>(from);
    if (size > 8) high = Load<uint64_t>(from + size - 8) >> (8 * (16 - size));
  } else if (size >= 4) {
    low = Load<uint32_t>(from) | uint64_t{Load<uint32_t>(from + size - 4)} << (8 * (size - 4));
  } else if (size > 0) {
    const auto at = [from](size_t i) { return uint64_t{static_cast<unsigned char>(from[i])}; };
    low = at(0) | at(size / 2) << (8 * (size / 2)) | at(size - 1) << (8 * (size - 1));
  }
  return _mm_set_epi64x(static_cast<int64_t>(high), static_cast<int64_t>(low));
}

unsigned EscapeMask(__m128i bytes) {
  const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1f)), bytes);
  const __m128i quote = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"'));
  const __m128i solidus = _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\'));
  const __m128i any = _mm_or_si128(control, _mm_or_si128(quote, solidus));
  return static_cast<unsigned>(_mm_movemask_epi8(any));
}

// Copies `size` <= 16 bytes of `from`, which `bytes` holds, escaping those in `mask`.
char* WriteMasked(const char* from, size_t size, __m128i bytes, unsigned mask, char* out) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), bytes);
  if (mask == 0) [[likely]]
    return out + size;
  size_t done = 0;
  for (; mask != 0; mask &= mask - 1) {
    const auto next = static_cast<size_t>(std::countr_zero(mask));
    std::memcpy(out, from + done, next - done);
    out = WriteEscape(static_cast<unsigned char>(from[next]), out + (next - done));
    done = next + 1;
  }
  std::memcpy(out, from + done, size - done);
  return out + (size - done);
}

#endif

}  // namespace

char* WriteEscapedPortable(std::string_view text, char* out) {
  for (const char c : text) {
    if (NeedsEscape(static_cast<unsigned char>(c))) {
      out = WriteEscape(static_cast<unsigned char>(c), out);
    } else {
      *out++ = c;
    }
  }
  return out;
}

#ifdef __SSE2__
char* WriteEscaped(std::string_view text, char* out) {
  const char* from = text.data();
  size_t left = text.size();
  for (; left >= 16; from += 16, left -= 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    out = WriteMasked(from, 16, bytes, EscapeMask(bytes), out);
  }
  const __m128i bytes = LoadPartial(from, left);
  return WriteMasked(from, left, bytes, EscapeMask(bytes) & ((1u << left) - 1), out);
}
#else
char* WriteEscaped(std::string_view text, char* out) { return WriteEscapedPortable(text, out); }
#endif

std::string JsonString(std::string_view text) {
  TextBuffer out;
  out.SetEnd(WriteQuoted(text, out.Reserve(0), 0, &out));
  return std::string(out.view());
}

char* WriteQuoted(std::string_view text, char* at, size_t margin, TextBuffer* out) {
  // A long text is written in slices, so that its worst case is never reserved at once.
  constexpr size_t kSlice = 64 << 10;
  at = out->ReserveAt(at, 1);
  *at++ = '"';
  do {
    const std::string_view slice = text.substr(0, kSlice);
    at = out->ReserveAt(at, EscapedMax(slice.size()) + 1 + margin);
    at = WriteEscaped(slice, at);
    text.remove_prefix(slice.size());
  } while (!text.empty());
  *at++ = '"';
  return at;
}

}  // namespace etl

#pragma once

#include <cstdint>
#include <string_view>

#include "decode/cell_result.h"

namespace etl {

// Values from the server's text form and from its binary (send) form. Pure; `out` is only written
// on kOk.

CellResult ParseBoolText(std::string_view text, bool* out);
CellResult ParseBoolBinary(std::string_view bytes, bool* out);

CellResult ParseIntText(std::string_view text, int16_t* out);
CellResult ParseIntText(std::string_view text, int32_t* out);
CellResult ParseIntText(std::string_view text, int64_t* out);
CellResult ParseIntText(std::string_view text, uint32_t* out);
CellResult ParseIntBinary(std::string_view bytes, int16_t* out);
CellResult ParseIntBinary(std::string_view bytes, int32_t* out);
CellResult ParseIntBinary(std::string_view bytes, int64_t* out);
CellResult ParseIntBinary(std::string_view bytes, uint32_t* out);

/// NaN always has the same bits, whatever payload the server holds, as its text form has no
/// payload.
CellResult ParseFloatText(std::string_view text, float* out);
CellResult ParseFloatText(std::string_view text, double* out);
CellResult ParseFloatBinary(std::string_view bytes, float* out);
CellResult ParseFloatBinary(std::string_view bytes, double* out);

/// 16 bytes to `out`.
CellResult ParseUuidText(std::string_view text, uint8_t* out);

/// Whether `text` is the hex form of a bytea (`\x…`); its value has (text.size() - 2) / 2 bytes.
inline bool IsByteaHex(std::string_view text) {
  return text.size() >= 2 && text.size() % 2 == 0 && text[0] == '\\' && text[1] == 'x';
}
/// Decodes a text that IsByteaHex into `out`.
CellResult ParseByteaHex(std::string_view text, uint8_t* out);

/// "char", as newer servers print it: a byte above 0x7f as `\ooo`, a zero byte as the empty text.
/// Writes at most 4 bytes to `out` and their number to `size`.
CellResult ParseCharText(std::string_view text, char* out, size_t* size);
CellResult ParseCharBinary(std::string_view bytes, char* out, size_t* size);

/// The text of a binary jsonb.
CellResult ParseJsonbBinary(std::string_view bytes, std::string_view* out);

/// Quick for plain ASCII.
bool IsUtf8(std::string_view text);

/// Lower-case hex: 2 * bytes.size() characters.
void WriteHex(std::string_view bytes, char* out);

}  // namespace etl

#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "destination/snowflake/text_buffer.h"

namespace etl {

/// Room that WriteEscaped needs for `size` bytes: every byte as \u00XX, and what a vector store
/// writes too far.
constexpr size_t EscapedMax(size_t size) { return size * 6 + 16; }

/// Writes UTF-8 text as it stands between the quotes of a JSON string (RFC 8259: quotation mark,
/// reverse solidus and control characters escaped, all else as it is). Returns the end. Finds what
/// to escape 16 bytes at a time where the processor has SSE2.
char* WriteEscaped(std::string_view text, char* out);
/// The same, byte by byte.
char* WriteEscapedPortable(std::string_view text, char* out);

/// A whole JSON string, quotes included.
std::string JsonString(std::string_view text);
/// Appends a whole JSON string, quotes included, at `at` inside `out`; keeps room for `margin`
/// bytes behind it.
char* WriteQuoted(std::string_view text, char* at, size_t margin, TextBuffer* out);

}  // namespace etl

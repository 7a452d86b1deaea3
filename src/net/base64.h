#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace etl {

/// Standard Base64 with padding, on one line (RFC 4648 section 4).
std::string Base64(std::string_view bytes);
/// The URL-safe alphabet without padding, as in a JWT (section 5).
std::string Base64Url(std::string_view bytes);
/// Undoes Base64Url; padding is tolerated. None if `text` is something else.
std::optional<std::string> DecodeBase64Url(std::string_view text);

}  // namespace etl

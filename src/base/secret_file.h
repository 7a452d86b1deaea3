#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace etl {

/// No file that holds a secret may be larger.
inline constexpr size_t kSecretFileBytesMax = 64 * 1024 - 1;

/// Reads a file that holds a secret into `into`, which the caller provides (one byte more than
/// kSecretFileBytesMax, so that a larger file is noticed) and wipes; returns its size. Refused with
/// ETL-C022 (kConfig): a file that is missing, a symbolic link, not a regular file, another user's
/// (root's excepted), open to others, or too large.
Result<size_t> ReadSecretFile(const std::string& path, std::span<char> into);

/// The error of a secret file that cannot be used.
Status SecretFileError(const std::string& path, std::string why, std::string remedy);

}  // namespace etl

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/secret.h"
#include "base/status.h"
#include "net/private_key.h"

namespace etl {

/// What a key-pair token says. Times are seconds since 1970.
struct JwtClaims {
  std::string account;  ///< as JwtAccount gives it
  std::string user;     ///< upper case
  std::string role;     ///< empty: the user's default role
  int64_t issued_at = 0;
  int64_t expires_at = 0;
};

/// RS256: iss = ACCOUNT.USER.fingerprint, sub = ACCOUNT.USER, scp = session:role:ROLE if there is a
/// role.
Result<Secret> SignJwt(const PrivateKey& key, const JwtClaims& claims);

/// An account identifier as it stands in a token: upper case; a locator is cut at its first period
/// (`xy12345.us-east-1`: XY12345), one with `.global` at its first hyphen; underscores stay.
std::string JwtAccount(std::string_view account);
/// ASCII letters to upper case; everything else stays.
std::string UpperAscii(std::string_view text);

/// When a token ends, by its own words. The signature is not looked at.
struct JwtTimes {
  int64_t expires_at = 0;            ///< seconds since 1970
  std::optional<int64_t> issued_at;  ///< the same
};
/// None if `token` is no JWT with an `exp`. Times in milliseconds are understood.
std::optional<JwtTimes> ReadJwtTimes(std::string_view token);

}  // namespace etl

#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "destination/snowflake/sql_answer.h"

namespace etl {

/// One of the two places that a user has for public keys.
enum class KeySlot : uint8_t { kFirst, kSecond };
/// RSA_PUBLIC_KEY or RSA_PUBLIC_KEY_2.
std::string_view KeySlotName(KeySlot slot);
inline KeySlot OtherSlot(KeySlot slot) {
  return slot == KeySlot::kFirst ? KeySlot::kSecond : KeySlot::kFirst;
}

/// The fingerprints that DESC USER shows (`SHA256:…`); empty: the slot is free.
struct UserKeys {
  std::string first;
  std::string second;
  const std::string& of(KeySlot slot) const { return slot == KeySlot::kFirst ? first : second; }
};

/// Reads the rows of DESC USER; ETL-D113 if they hold no fingerprint properties.
Result<UserKeys> ReadUserKeys(const SqlRows& rows);

std::string DescribeUserSql(const std::string& user);
/// `public_key` is PrivateKey::public_key().
std::string SetKeySql(const std::string& user, KeySlot slot, const std::string& public_key);
std::string UnsetKeySql(const std::string& user, KeySlot slot);

}  // namespace etl

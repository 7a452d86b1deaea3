#include "destination/snowflake/user_keys.h"

#include <fmt/format.h>

#include "destination/snowflake/identifiers.h"
#include "net/jwt.h"

namespace etl {
namespace {

// As the token names the user: in upper case.
std::string QuotedUser(const std::string& user) { return QuoteIdentifier(UpperAscii(user)); }

}  // namespace

std::string_view KeySlotName(KeySlot slot) {
  return slot == KeySlot::kFirst ? "RSA_PUBLIC_KEY" : "RSA_PUBLIC_KEY_2";
}

Result<UserKeys> ReadUserKeys(const SqlRows& rows) {
  UserKeys keys;
  bool seen = false;
  for (const SqlRow& row : rows.rows) {
    if (row.size() < 2 || !row[0].has_value()) continue;
    // A property without a value is shown as the word null.
    const std::string value = row[1].value_or("null") == "null" ? "" : *row[1];
    if (*row[0] == "RSA_PUBLIC_KEY_FP") keys.first = value;
    if (*row[0] == "RSA_PUBLIC_KEY_2_FP") keys.second = value;
    seen = seen || row[0]->starts_with("RSA_PUBLIC_KEY");
  }
  if (seen) return keys;
  return MakeError(ErrorKind::kAuth, "ETL-D104",
                   "snowflake: DESC USER does not show the fingerprints of the user's keys",
                   "let the role own the user, or run it under another one: --role ROLE");
}

std::string DescribeUserSql(const std::string& user) { return "DESC USER " + QuotedUser(user); }

std::string SetKeySql(const std::string& user, KeySlot slot, const std::string& public_key) {
  return fmt::format("ALTER USER {} SET {}='{}'", QuotedUser(user), KeySlotName(slot), public_key);
}

std::string UnsetKeySql(const std::string& user, KeySlot slot) {
  return fmt::format("ALTER USER {} UNSET {}", QuotedUser(user), KeySlotName(slot));
}

}  // namespace etl

#pragma once

#include <string>
#include <string_view>

#include "base/http_url.h"
#include "base/status.h"

namespace etl {

/// Where an account is and what it is called in tokens.
struct SnowflakeAccount {
  std::string name;  ///< in tokens: MYORG-MY_ACCT
  HttpUrl url;
  std::string base;  ///< scheme://host[:port][/path], what paths are appended to
};

/// `account` as a person writes it (`myorg-my_acct`, `xy12345.us-east-1`); `url` may be empty, then
/// the host is made from the account with - for _, which a TLS name may not hold. kConfig.
Result<SnowflakeAccount> MakeSnowflakeAccount(std::string_view account, std::string_view url);

/// The host that takes rows.
struct IngestHost {
  std::string base;   ///< scheme://host[:port]
  std::string scope;  ///< the bare host: what a token is asked for
};

/// Reads the answer to `GET /v2/streaming/hostname`: bare text, or `{"hostname": …}`. Scheme, and
/// the port where none is answered, are the account's. A host outside snowflakecomputing.* is
/// refused for an account inside it: tokens go there. kTransient, ETL-D113.
Result<IngestHost> ParseIngestHost(const SnowflakeAccount& account, std::string_view answer);

}  // namespace etl

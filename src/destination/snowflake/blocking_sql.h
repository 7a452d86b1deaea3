#pragma once

#include <memory>
#include <string>

#include "config/config.h"
#include "destination/snowflake/sql_client.h"
#include "net/curl_http_client.h"

namespace etl {

/// The SQL API for commands at a terminal: one statement at a time, waiting for each. Never on a
/// stage's thread.
class BlockingSql {
 public:
  /// Reads the key. `role` replaces the configured one unless it is empty.
  static Result<std::unique_ptr<BlockingSql>> Make(const SnowflakeConfig& config, KeyOrigin key,
                                                   const std::string& role = {});

  /// Under the role given to Make, unless the request names one.
  SqlOutcome Run(SqlRequest request);
  const std::string& fingerprint() const { return tokens_.fingerprint(); }
  const SnowflakeAccount& account() const { return account_; }

 private:
  BlockingSql(const SnowflakeConfig& config, SnowflakeAccount account, KeyOrigin key,
              std::string role);

  const std::string role_;
  const SnowflakeAccount account_;
  CurlHttpClient http_;
  TokenSource tokens_;
  ApiSession session_;
  SqlClient sql_;
};

}  // namespace etl

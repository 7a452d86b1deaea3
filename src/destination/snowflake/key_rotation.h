#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "destination/snowflake/sql_client.h"
#include "net/key_origin.h"

namespace etl {

/// Runs one statement with the key that it was made for.
using StatementRunner = std::function<SqlOutcome(SqlRequest request)>;

struct KeyRotation {
  std::string user;
  std::string key_file;          ///< the one in use; replaced in one step
  SecretReader passphrase;       ///< of both keys
  bool overwrite_other = false;  ///< a foreign key in the other slot may go
  /// A runner that signs with the key of `file`.
  std::function<Result<StatementRunner>(const std::string& file)> connect;
  std::function<void(const std::string& line)> say;
};

/// Changes the key pair of a user without a pause: makes a new one beside the file (FILE.new), puts
/// it into the user's free slot, proves that it is accepted, replaces the file, and takes the old
/// one out of its slot. Each step is verified before the next. Both keys are valid until the last
/// step, so it may be ended at any point and run again; a service that is running takes the new
/// file up by itself.
Status RotateKey(const KeyRotation& rotation);

}  // namespace etl

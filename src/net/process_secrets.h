#pragma once

#include "base/status.h"

namespace etl {

/// What the process does so that keys stay in it.
struct ProcessSecretOptions {
  bool dumpable = false;  ///< true: core dumps and debuggers are allowed (for developers)
};

/// Sets OpenSSL's secure heap up (locked in memory where the limit allows, left out of core dumps,
/// guarded by unmapped pages) and takes from the process the ability to dump core or to be traced
/// by the same user. Called once by main, before the first key is read and before other threads are
/// made.
///
/// Without a secure heap (no memory could be reserved) keys still work, from the ordinary heap, and
/// are wiped as well; the answer says so: false.
bool ProtectProcessSecrets(const ProcessSecretOptions& options);

}  // namespace etl

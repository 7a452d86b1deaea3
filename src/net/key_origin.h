#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/secret.h"
#include "net/private_key.h"

namespace etl {

using PrivateKeyPtr = std::shared_ptr<const PrivateKey>;
/// Gives a secret when it is needed, so that nobody has to keep it.
using SecretReader = std::function<Result<Secret>()>;

/// Where a private key comes from. Used by one thread.
struct KeyOrigin {
  /// Reads it, anew each time.
  std::function<Result<PrivateKeyPtr>()> read;
  /// Whether it may have changed since the last successful or failed read. Cheap.
  std::function<bool()> changed;
};

/// A PEM file; changed when it is another file, or was written to.
KeyOrigin KeyFromFile(std::string path, SecretReader passphrase);
/// PEM text of a variable, called `name` in errors; never changed while the process lives.
KeyOrigin KeyFromText(std::string name, SecretReader pem, SecretReader passphrase);

}  // namespace etl

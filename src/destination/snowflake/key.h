#pragma once

#include <string>

#include "config/secret_ref.h"
#include "net/key_origin.h"

namespace etl {

/// The private key that the configuration refers to: a file is read straight into the secure heap,
/// and looked at for changes; a variable is read once a call.
KeyOrigin KeyFromConfig(const SecretRef& key, const SecretRef& passphrase);

}  // namespace etl

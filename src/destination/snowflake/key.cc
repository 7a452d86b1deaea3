#include "destination/snowflake/key.h"

namespace etl {

KeyOrigin KeyFromConfig(const SecretRef& key, const SecretRef& passphrase) {
  SecretReader words = [passphrase] { return passphrase.Resolve(); };
  if (key.kind() == SecretRef::Kind::kFile) return KeyFromFile(key.name(), std::move(words));
  return KeyFromText(
      key.Describe(), [key] { return key.Resolve(); }, std::move(words));
}

}  // namespace etl

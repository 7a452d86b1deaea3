#include "net/process_secrets.h"

#include <sys/prctl.h>
#include <sys/resource.h>

#include <openssl/crypto.h>

namespace etl {
namespace {

// An RSA key of 4096 bits takes some 10 KiB; a few, while a new one replaces an old one.
constexpr size_t kSecureHeapBytes = size_t{1} << 19;
constexpr size_t kSecureHeapSmallest = 32;

}  // namespace

bool ProtectProcessSecrets(const ProcessSecretOptions& options) {
  if (!options.dumpable) {
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = 0};
    setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, 0);
  }
  if (CRYPTO_secure_malloc_initialized() != 0) return true;
  // 1: locked; 2: reserved, but not locked.
  return CRYPTO_secure_malloc_init(kSecureHeapBytes, kSecureHeapSmallest) != 0;
}

}  // namespace etl

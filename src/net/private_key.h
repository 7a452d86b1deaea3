#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/secret.h"
#include "base/status.h"

struct evp_pkey_st;

namespace etl {

/// An RSA private key of at least 2048 bits. Lives in OpenSSL's secure heap
/// (ProtectProcessSecrets), is not copyable, has no text form but the file that `key generate`
/// writes, and is wiped when it ends. Immutable; signing is safe from several threads.
///
/// Errors are kConfig with ETL-C024 (ETL-C022 for a file's place or mode) and name the file, never
/// what is in it.
class PrivateKey {
 public:
  /// Reads a PEM file: PKCS#8, encrypted (PBES2) or not, or PKCS#1. It must be a regular file, not
  /// a link, of this user or root, and closed to others. Its text passes through the secure heap
  /// only.
  static Result<std::unique_ptr<PrivateKey>> ReadFile(const std::string& path,
                                                      const Secret& passphrase);
  /// The same from text at hand (a variable of the environment); the caller wipes it. `name` is for
  /// errors.
  static Result<std::unique_ptr<PrivateKey>> FromPem(std::string_view pem, const Secret& passphrase,
                                                     std::string_view name);
  /// A new key; `bits` is 2048, 3072 or 4096.
  static Result<std::unique_ptr<PrivateKey>> Generate(int bits);

  ~PrivateKey();
  PrivateKey(const PrivateKey&) = delete;
  PrivateKey& operator=(const PrivateKey&) = delete;

  int bits() const { return bits_; }
  /// `SHA256:` and the Base64 of the SHA-256 over the DER SubjectPublicKeyInfo: what DESC USER
  /// shows as RSA_PUBLIC_KEY_FP.
  const std::string& fingerprint() const { return fingerprint_; }
  /// The public key as ALTER USER takes it: Base64 of the DER, on one line.
  const std::string& public_key() const { return public_key_; }

  /// RSASSA-PKCS1-v1_5 with SHA-256 over `text`: raw bytes.
  Result<std::string> Sign(std::string_view text) const;

  /// Writes the key as PKCS#8 PEM, encrypted with AES-256-CBC if there is a passphrase, into a new
  /// file of mode 0600. A file that exists is left alone (kUsage, ETL-U004); a failed write leaves
  /// none.
  Status WriteFile(const std::string& path, const Secret& passphrase) const;

 private:
  explicit PrivateKey(evp_pkey_st* key) : key_(key) {}
  static Result<std::unique_ptr<PrivateKey>> Adopt(evp_pkey_st* key, std::string_view name);

  evp_pkey_st* const key_;
  int bits_ = 0;
  std::string fingerprint_;
  std::string public_key_;
};

}  // namespace etl

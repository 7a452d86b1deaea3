#include "net/private_key.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "net/base64.h"

namespace etl {
namespace {

constexpr int kBitsMin = 2048;

Status KeyError(std::string_view name, std::string why, std::string remedy) {
  // OpenSSL's own queue is dropped: its words may quote what it could not read.
  ERR_clear_error();
  return MakeError(ErrorKind::kConfig,
                   ErrorParts{.code = "ETL-C024",
                              .what = fmt::format("the private key {} cannot be used", name),
                              .why = std::move(why),
                              .safe = {},
                              .remedy = std::move(remedy)});
}

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using Bio = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using EncryptedKey = std::unique_ptr<X509_SIG, Freer<X509_SIG_free>>;
using PlainKey = std::unique_ptr<PKCS8_PRIV_KEY_INFO, Freer<PKCS8_PRIV_KEY_INFO_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;

// The bytes between BEGIN and END, decoded into the secure heap.
struct PemBytes {
  char* name = nullptr;
  unsigned char* data = nullptr;
  long size = 0;
  PemBytes() = default;
  PemBytes(const PemBytes&) = delete;
  PemBytes& operator=(const PemBytes&) = delete;
  ~PemBytes() {
    OPENSSL_secure_free(name);
    OPENSSL_secure_clear_free(data, static_cast<size_t>(size));
  }
};

struct PassphraseUse {
  const Secret& passphrase;
  bool asked = false;
};

int GivePassphrase(char* buffer, int size, int, void* user) {
  auto* use = static_cast<PassphraseUse*>(user);
  use->asked = true;
  const std::string_view text = use->passphrase.Reveal();
  if (text.empty() || text.size() > static_cast<size_t>(size)) return -1;
  std::memcpy(buffer, text.data(), text.size());
  return static_cast<int>(text.size());
}

std::string PassphraseProblem(const Secret& passphrase) {
  return passphrase.empty() ? "it is encrypted and no passphrase is given"
                            : "the passphrase does not open it";
}

EVP_PKEY* DecodePlain(const unsigned char* data, long size) {
  const PlainKey plain(d2i_PKCS8_PRIV_KEY_INFO(nullptr, &data, size));
  return plain == nullptr ? nullptr : EVP_PKCS82PKEY(plain.get());
}

EVP_PKEY* DecodeEncrypted(const unsigned char* data, long size, const Secret& passphrase) {
  const EncryptedKey sealed(d2i_X509_SIG(nullptr, &data, size));
  if (sealed == nullptr) return nullptr;
  const std::string_view text = passphrase.Reveal();
  const PlainKey plain(PKCS8_decrypt(sealed.get(), text.data(), static_cast<int>(text.size())));
  return plain == nullptr ? nullptr : EVP_PKCS82PKEY(plain.get());
}

}  // namespace

PrivateKey::~PrivateKey() { EVP_PKEY_free(key_); }

Result<std::unique_ptr<PrivateKey>> PrivateKey::FromPem(std::string_view pem,
                                                        const Secret& passphrase,
                                                        std::string_view name) {
  // Reads the caller's bytes where they are.
  const Bio bio(
      BIO_new_mem_buf(pem.data(), static_cast<int>(std::min<size_t>(pem.size(), 1 << 20))));
  PemBytes bytes;
  PassphraseUse use{passphrase};
  if (bio == nullptr ||
      PEM_bytes_read_bio_secmem(&bytes.data, &bytes.size, &bytes.name, PEM_STRING_EVP_PKEY,
                                bio.get(), &GivePassphrase, &use) != 1) {
    if (use.asked)
      return KeyError(name, PassphraseProblem(passphrase), "look at private_key_passphrase");
    return KeyError(name, "it holds no private key in PEM form",
                    "make one with: etl-stream key generate");
  }
  const std::string_view kind = bytes.name;
  if (kind == PEM_STRING_PKCS8INF) return Adopt(DecodePlain(bytes.data, bytes.size), name);
  if (kind == PEM_STRING_PKCS8) {
    EVP_PKEY* key =
        passphrase.empty() ? nullptr : DecodeEncrypted(bytes.data, bytes.size, passphrase);
    if (key == nullptr)
      return KeyError(name, PassphraseProblem(passphrase), "look at private_key_passphrase");
    return Adopt(key, name);
  }
  if (kind != PEM_STRING_RSA)
    return KeyError(name, "it is not an RSA key", "make one with: etl-stream key generate");
  const unsigned char* data = bytes.data;
  return Adopt(d2i_PrivateKey(EVP_PKEY_RSA, nullptr, &data, bytes.size), name);
}

Result<std::unique_ptr<PrivateKey>> PrivateKey::Generate(int bits) {
  return Adopt(EVP_RSA_gen(static_cast<unsigned int>(bits)), "that was to be made");
}

Result<std::unique_ptr<PrivateKey>> PrivateKey::Adopt(EVP_PKEY* key, std::string_view name) {
  if (key == nullptr)
    return KeyError(name, "its bytes cannot be read", "make one with: etl-stream key generate");
  std::unique_ptr<PrivateKey> out(new PrivateKey(key));
  if (EVP_PKEY_get_base_id(key) != EVP_PKEY_RSA)
    return KeyError(name, "it is not an RSA key", "make one with: etl-stream key generate");
  out->bits_ = EVP_PKEY_get_bits(key);
  if (out->bits_ < kBitsMin) {
    return KeyError(name, fmt::format("it has {} bits; {} are needed", out->bits_, kBitsMin),
                    "make one with: etl-stream key generate");
  }
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int digest_size = 0;
  const bool ok = size > 0 && EVP_Digest(der, static_cast<size_t>(size), digest, &digest_size,
                                         EVP_sha256(), nullptr) == 1;
  if (ok) {
    const auto text = [](const unsigned char* at, size_t count) {
      return Base64({reinterpret_cast<const char*>(at), count});
    };
    out->public_key_ = text(der, static_cast<size_t>(size));
    out->fingerprint_ = "SHA256:" + text(digest, digest_size);
  }
  OPENSSL_free(der);
  if (!ok) return KeyError(name, "its public half cannot be had", {});
  ERR_clear_error();
  return out;
}

Result<std::string> PrivateKey::Sign(std::string_view text) const {
  const DigestContext context(EVP_MD_CTX_new());
  const auto* data = reinterpret_cast<const unsigned char*>(text.data());
  size_t size = 0;
  std::string signature;
  bool ok = context != nullptr &&
            EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_) == 1 &&
            EVP_DigestSign(context.get(), nullptr, &size, data, text.size()) == 1;
  if (ok) {
    signature.resize(size);
    ok = EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                        data, text.size()) == 1;
    signature.resize(size);
  }
  ERR_clear_error();
  if (ok) return signature;
  return MakeError(ErrorKind::kInternal, "ETL-C024", "the private key could not sign");
}

}  // namespace etl

#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <unistd.h>

#include "base/secret_file.h"
#include "base/unique_fd.h"
#include "net/private_key.h"

namespace etl {
namespace {

// In the secure heap, wiped when it ends.
class SecureBuffer {
 public:
  explicit SecureBuffer(size_t size)
      : data_(static_cast<char*>(OPENSSL_secure_malloc(size))), size_(size) {}
  ~SecureBuffer() { OPENSSL_secure_clear_free(data_, size_); }
  SecureBuffer(const SecureBuffer&) = delete;
  SecureBuffer& operator=(const SecureBuffer&) = delete;
  char* data() const { return data_; }
  std::span<char> span() const { return {data_, size_}; }

 private:
  char* const data_;
  const size_t size_;
};

Status NotWritten(const std::string& path, int reason) {
  return MakeError(ErrorKind::kUsage, "ETL-U004",
                   fmt::format("{} cannot be written: {}", path, std::strerror(reason)));
}

bool WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t wrote = write(fd, data, size);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return false;
    data += wrote;
    size -= static_cast<size_t>(wrote);
  }
  return fsync(fd) == 0;
}

}  // namespace

Result<std::unique_ptr<PrivateKey>> PrivateKey::ReadFile(const std::string& path,
                                                         const Secret& passphrase) {
  const SecureBuffer text(kSecretFileBytesMax + 1);
  if (text.data() == nullptr) return SecretFileError(path, "no memory is left for it", {});
  ETL_ASSIGN_OR_RETURN(const size_t size, ReadSecretFile(path, text.span()));
  return FromPem({text.data(), size}, passphrase, path);
}

Status PrivateKey::WriteFile(const std::string& path, const Secret& passphrase) const {
  UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (file.get() < 0 && errno == EEXIST) {
    return MakeError(ErrorKind::kUsage, "ETL-U004", fmt::format("{} exists already", path),
                     "remove it, or name another file");
  }
  if (file.get() < 0) return NotWritten(path, errno);
  std::string_view secret = passphrase.Reveal();
  // The PEM text is made in the secure heap and wiped with the BIO.
  BIO* bio = BIO_new(BIO_s_secmem());
  const bool made =
      bio != nullptr && PEM_write_bio_PKCS8PrivateKey(
                            bio, key_, secret.empty() ? nullptr : EVP_aes_256_cbc(), secret.data(),
                            static_cast<int>(secret.size()), nullptr, nullptr) == 1;
  char* pem = nullptr;
  const long size = made ? BIO_get_mem_data(bio, &pem) : 0;
  const bool written = size > 0 && WriteAll(file.get(), pem, static_cast<size_t>(size));
  const int reason = made ? errno : EIO;
  if (pem != nullptr) OPENSSL_cleanse(pem, static_cast<size_t>(size));
  BIO_free_all(bio);
  ERR_clear_error();
  if (written && close(file.Release()) == 0) return Status::OK();
  unlink(path.c_str());
  return NotWritten(path, reason);
}

}  // namespace etl

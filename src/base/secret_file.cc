#include "base/secret_file.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

#include "base/check.h"
#include "base/unique_fd.h"

namespace etl {
namespace {

Status SystemError(const std::string& path, int reason) {
  return SecretFileError(path, std::strerror(reason), fmt::format("ls -l {}", path));
}

Status CheckOwner(const std::string& path, const struct stat& facts) {
  if (!S_ISREG(facts.st_mode)) {
    return SecretFileError(path, "it is not a regular file", "name a file that holds the secret");
  }
  if (facts.st_uid != geteuid() && facts.st_uid != 0) {
    return SecretFileError(path, "it belongs to another user",
                           fmt::format("chown it to the user that runs etl-stream: {}", path));
  }
  if ((facts.st_mode & 077) != 0) {
    return SecretFileError(path,
                           fmt::format("others may read it (mode {:04o})", facts.st_mode & 07777U),
                           fmt::format("chmod 600 {}", path));
  }
  return Status::OK();
}

}  // namespace

Status SecretFileError(const std::string& path, std::string why, std::string remedy) {
  return MakeError(ErrorKind::kConfig,
                   ErrorParts{.code = "ETL-C022",
                              .what = fmt::format("the secret file {} cannot be used", path),
                              .why = std::move(why),
                              .safe = {},
                              .remedy = std::move(remedy)});
}

Result<size_t> ReadSecretFile(const std::string& path, std::span<char> into) {
  ETL_CHECK(into.size() > kSecretFileBytesMax);
  const UniqueFd file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ELOOP)
      return SecretFileError(path, "it is a symbolic link", "name the file itself");
    return SystemError(path, errno);
  }
  struct stat facts = {};
  if (fstat(file.get(), &facts) != 0) return SystemError(path, errno);
  ETL_RETURN_IF_ERROR(CheckOwner(path, facts));
  size_t size = 0;
  while (size < into.size()) {
    const ssize_t got = read(file.get(), into.data() + size, into.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return SystemError(path, errno);
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kSecretFileBytesMax) {
    return SecretFileError(path, fmt::format("it is larger than {} bytes", kSecretFileBytesMax),
                           "name a file that holds the secret");
  }
  return size;
}

}  // namespace etl

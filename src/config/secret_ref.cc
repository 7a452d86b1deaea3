#include "config/secret_ref.h"

#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace etl {
namespace {

constexpr size_t kSecretBytesMax = 64 * 1024;

Status FileError(const std::string& path, std::string why, std::string remedy) {
  return MakeError(ErrorKind::kConfig,
                   ErrorParts{.code = "ETL-C022",
                              .what = fmt::format("the secret file {} cannot be used", path),
                              .why = std::move(why),
                              .safe = {},
                              .remedy = std::move(remedy)});
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

Result<Secret> ReadSecretFile(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) {
    if (errno == ELOOP) return FileError(path, "it is a symbolic link", "name the file itself");
    return FileError(path, std::strerror(errno), fmt::format("ls -l {}", path));
  }
  struct stat facts = {};
  if (fstat(file.get(), &facts) != 0)
    return FileError(path, std::strerror(errno), fmt::format("ls -l {}", path));
  if (!S_ISREG(facts.st_mode))
    return FileError(path, "it is not a regular file", "name a file that holds the secret");
  if ((facts.st_mode & 077) != 0) {
    return FileError(path, fmt::format("others may read it (mode {:04o})", facts.st_mode & 07777U),
                     fmt::format("chmod 600 {}", path));
  }
  std::string text(kSecretBytesMax + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      WipeString(text);
      return FileError(path, std::strerror(errno), fmt::format("ls -l {}", path));
    }
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kSecretBytesMax) {
    WipeString(text);
    return FileError(path, fmt::format("it is larger than {} bytes", kSecretBytesMax),
                     "name a file that holds the secret");
  }
  text.resize(size);
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  if (text.empty()) return FileError(path, "it is empty", "write the secret into it");
  return Secret(std::move(text));
}

}  // namespace

SecretRef SecretRef::Literal(Secret text) {
  SecretRef ref(Kind::kLiteral, {});
  ref.literal_ = std::make_shared<const Secret>(std::move(text));
  return ref;
}

std::string SecretRef::Describe() const {
  switch (kind_) {
    case Kind::kNone: return {};
    case Kind::kEnv: return fmt::format("{{env: {}}}", name_);
    case Kind::kFile: return fmt::format("{{file: {}}}", name_);
    case Kind::kLiteral: return "***";
  }
  return {};
}

Result<Secret> SecretRef::Resolve(const EnvReader& env) const {
  switch (kind_) {
    case Kind::kNone: return Secret();
    case Kind::kLiteral: return literal_->Clone();
    case Kind::kFile: return ReadSecretFile(name_);
    case Kind::kEnv: break;
  }
  std::optional<std::string> value = env(name_);
  if (!value.has_value() || value->empty()) {
    return MakeError(
        ErrorKind::kConfig, "ETL-C020",
        fmt::format("the environment variable {} that holds a secret is not set", name_),
        fmt::format("export {}=…", name_));
  }
  return Secret(std::move(*value));
}

bool operator==(const SecretRef& a, const SecretRef& b) {
  if (a.kind_ != b.kind_ || a.name_ != b.name_) return false;
  if (a.kind_ != SecretRef::Kind::kLiteral) return true;
  return a.literal_->Reveal() == b.literal_->Reveal();
}

}  // namespace etl

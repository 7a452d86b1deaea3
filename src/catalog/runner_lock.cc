#include "catalog/runner_lock.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include <fmt/format.h>

namespace etl {
namespace {

struct flock WholeFile(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

int64_t PidIn(int fd) {
  char text[32] = {};
  const ssize_t got = pread(fd, text, sizeof(text) - 1, 0);
  return got <= 0 ? 0 : std::strtoll(text, nullptr, 10);
}

Status LockFileError(const std::string& path) {
  return MakeError(
      ErrorKind::kConfig,
      ErrorParts{.code = "ETL-C051",
                 .what = fmt::format("the lock file {} cannot be used", path),
                 .why = std::strerror(errno),
                 .safe = {},
                 .remedy = "let `catalog` name a file in a folder that may be written to"});
}

}  // namespace

Result<std::unique_ptr<RunnerLock>> RunnerLock::TryAcquire(const std::string& path,
                                                           const std::string& pipeline) {
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return LockFileError(path);
  // An open file description lock belongs to this descriptor, not to the process: two holders
  // inside one process exclude each other too, and closing another descriptor of the file does not
  // let go of it.
  struct flock lock = WholeFile(F_WRLCK);
  if (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
    const bool held = errno == EAGAIN || errno == EACCES;
    const Status failed = LockFileError(path);
    const int64_t pid = PidIn(fd);
    close(fd);
    if (!held) return failed;
    return MakeError(ErrorKind::kBusy, "ETL-R104",
                     fmt::format("pipeline {} is run by another process{}", pipeline,
                                 pid > 0 ? fmt::format(" (pid {})", pid) : ""),
                     "end that process, or try again later");
  }
  const std::string pid = fmt::format("{}\n", getpid());
  if (ftruncate(fd, 0) != 0 || pwrite(fd, pid.data(), pid.size(), 0) < 0) {
    // The pid is for messages only; the lock holds without it.
  }
  return std::unique_ptr<RunnerLock>(new RunnerLock(fd));
}

Result<std::optional<int64_t>> RunnerLock::HolderOf(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) {
    if (errno == ENOENT) return std::optional<int64_t>();
    return LockFileError(path);
  }
  struct flock lock = WholeFile(F_WRLCK);
  const int asked = fcntl(fd, F_OFD_GETLK, &lock);
  const Status failed = asked == 0 ? Status::OK() : LockFileError(path);
  const int64_t pid = PidIn(fd);
  close(fd);
  if (!failed.ok()) return failed;
  if (lock.l_type == F_UNLCK) return std::optional<int64_t>();
  return std::optional<int64_t>(pid);
}

RunnerLock::~RunnerLock() { close(fd_); }

}  // namespace etl

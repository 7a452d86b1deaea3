#pragma once

#include <utility>

#include <unistd.h>

namespace etl {

/// Owns a file descriptor, or none (negative); closes it when it ends.
class UniqueFd {
 public:
  explicit UniqueFd(int fd) : fd_(fd) {}
  ~UniqueFd() {
    if (fd_ >= 0) close(fd_);
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  int get() const { return fd_; }
  /// Now the caller's to close.
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

}  // namespace etl

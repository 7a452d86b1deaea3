#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/status.h"

namespace etl {

/// The right to run one pipeline: a lock on a file beside the catalog, held while this object
/// lives. The kernel lets go of it when the process ends in any way, so a killed runner never
/// blocks its successor. The file itself stays.
class RunnerLock {
 public:
  /// kBusy (ETL-R104, naming the holder's pid) if somebody has it.
  static Result<std::unique_ptr<RunnerLock>> TryAcquire(const std::string& path,
                                                        const std::string& pipeline);
  /// The pid of the holder, without disturbing it; none if nobody holds the lock.
  static Result<std::optional<int64_t>> HolderOf(const std::string& path);
  ~RunnerLock();
  RunnerLock(const RunnerLock&) = delete;
  RunnerLock& operator=(const RunnerLock&) = delete;

 private:
  explicit RunnerLock(int fd) : fd_(fd) {}
  int fd_;
};

}  // namespace etl

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/byte_budget.h"

namespace etl {

/// Bytes set aside on disk: blocks with a checksum each, appended in order and read back once in
/// the same order. One owner, one thread.
///
/// The file has no name. Nobody else can open it, and it ends with the process, however that ends:
/// there are no leftovers to find and remove. `disk` counts what it holds (`limits.spill`).
class SpillFile {
 public:
  /// `folder` must exist. Errors: kConfig (ETL-C140) if it cannot be used at all, kTransient
  /// (ETL-R102) if it cannot be written at the moment. `disk` may be null: unbounded.
  static Result<std::unique_ptr<SpillFile>> Make(const std::string& folder, ByteBudget* disk);
  ~SpillFile();
  SpillFile(const SpillFile&) = delete;
  SpillFile& operator=(const SpillFile&) = delete;

  /// kData (ETL-S220) if `limits.spill` would be passed; then nothing was written.
  Status Append(std::string_view block);
  /// The next block into `block`; false if there is none left. A block that reads otherwise than it
  /// was written is an error (kTransient: it comes again from the source).
  Result<bool> Next(std::string* block);
  int64_t bytes() const { return end_; }

 private:
  SpillFile(int fd, std::string folder, ByteBudget* disk);
  Status ReadAll(char* to, int64_t size, int64_t offset) const;

  const int fd_;
  const std::string folder_;
  ByteBudget* const disk_;
  ByteLease lease_;
  int64_t end_ = 0;
  uint32_t written_ = 0;  ///< blocks
  int64_t at_ = 0;        ///< where Next reads on
  uint32_t read_ = 0;
};

}  // namespace etl

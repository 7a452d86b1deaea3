#pragma once

#include <filesystem>
#include <string>

#include <stdlib.h>
#include <unistd.h>

namespace etl {

/// A file in a directory of its own, gone with the object. In memory where there is such a place:
/// the tests do not depend on a disk, and every COMMIT waits for one.
class TemporaryFile {
 public:
  TemporaryFile() {
    const std::filesystem::path memory = "/dev/shm";
    const auto place =
        access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
    std::string pattern = (place / "etl-duckdb-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~TemporaryFile() { std::filesystem::remove_all(directory_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path() const { return directory_ / "my-file.v1.duckdb"; }

 private:
  std::filesystem::path directory_;
};

}  // namespace etl

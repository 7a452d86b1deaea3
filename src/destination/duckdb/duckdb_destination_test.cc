#include "destination/duckdb/duckdb_destination.h"

#include <filesystem>

#include <gtest/gtest.h>
#include <unistd.h>

#include "destination/conformance.h"

namespace etl {
namespace {

/// A file in a directory of its own, gone with the object.
class TemporaryFile {
 public:
  TemporaryFile() {
    // In memory where there is such a place: nothing here depends on a disk, and every COMMIT waits
    // for one.
    const std::filesystem::path memory = "/dev/shm";
    const auto place =
        access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
    std::string pattern = (place / "etl-duckdb-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~TemporaryFile() { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ / "my-file.v1.duckdb"; }

 private:
  std::filesystem::path directory_;
};

class DuckDbPlace : public ConformancePlace {
 public:
  std::unique_ptr<Destination> Open() override {
    file_ = std::make_shared<DuckDbFile>(
        DuckDbOptions{.path = temporary_.path(), .memory_bytes = 128 << 20, .threads = 1});
    return std::make_unique<DuckDbDestination>(file_, SystemClock());
  }

 private:
  TemporaryFile temporary_;
  std::shared_ptr<DuckDbFile> file_;
};

INSTANTIATE_TEST_SUITE_P(DuckDb, Conformance,
                         testing::Values(ConformanceSubject{
                             .name = "duckdb",
                             .make = [] { return std::make_unique<DuckDbPlace>(); }}));

}  // namespace
}  // namespace etl

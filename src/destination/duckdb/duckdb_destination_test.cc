#include "destination/duckdb/duckdb_destination.h"

#include <gtest/gtest.h>

#include "destination/conformance.h"
#include "destination/duckdb/duckdb_test_support.h"

namespace etl {
namespace {

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

#include "destination/null/null_destination.h"

#include "destination/conformance.h"

namespace etl {
namespace {

class NullPlace : public ConformancePlace {
 public:
  std::unique_ptr<Destination> Open() override { return std::make_unique<NullDestination>(); }
};

INSTANTIATE_TEST_SUITE_P(
    Null, Conformance,
    testing::Values(ConformanceSubject{
        .name = "null", .make = [] { return std::make_unique<NullPlace>(); }, .stores = false}));

}  // namespace
}  // namespace etl

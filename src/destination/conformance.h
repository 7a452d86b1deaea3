#pragma once

#include <functional>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "destination/destination.h"

namespace etl {

/// What a destination brings to the suite: places to write to, each opened any number of times, one
/// after the other.
class ConformancePlace {
 public:
  virtual ~ConformancePlace() = default;
  /// A new object on this place; the one before was destroyed, possibly without Shutdown.
  virtual std::unique_ptr<Destination> Open() = 0;
};

struct ConformanceSubject {
  std::string name;
  std::function<std::unique_ptr<ConformancePlace>()> make;
  /// Keeps what it is given, and gives it back through Read: the tests of content run.
  bool stores = true;
  /// Reads values again that were never sent, and follows changes of columns. A destination that
  /// does not refuses them.
  bool settles = true;
  bool changes_columns = true;
  bool signed_zeros = true;  ///< -0.0 comes back as such
  /// How many seeds the random tests take; ETL_TEST_SEEDS asks for more, ETL_TEST_SEED for one.
  int seeds = 8;
};

/// The suite that every destination passes: `INSTANTIATE_TEST_SUITE_P(Name, Conformance,
/// testing::Values(subject))` in its own test, with conformance.cc and conformance_model.cc among
/// the sources.
class Conformance : public testing::TestWithParam<ConformanceSubject> {};

inline void PrintTo(const ConformanceSubject& subject, std::ostream* out) { *out << subject.name; }

}  // namespace etl

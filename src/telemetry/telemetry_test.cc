#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "base/random.h"
#include "telemetry/counter.h"
#include "telemetry/histogram.h"
#include "telemetry/metric_names.h"

namespace etl {
namespace {

TEST(Histogram, WithoutSamplesHasNoQuantile) {
  LatencyHistogram histogram;
  EXPECT_EQ(histogram.QuantileMicros(0.5), std::nullopt);
}

TEST(Histogram, SmallTimesAreExact) {
  LatencyHistogram histogram;
  for (int64_t micros = 0; micros < 16; ++micros) histogram.RecordMicros(micros);
  EXPECT_EQ(histogram.QuantileMicros(0.0), 0);
  EXPECT_EQ(histogram.QuantileMicros(0.5), 7);
  EXPECT_EQ(histogram.QuantileMicros(1.0), 15);
}

TEST(Histogram, QuantilesAreNeverLowAndAtMostASixteenthHigh) {
  Random random(7);
  for (int round = 0; round < 2000; ++round) {
    LatencyHistogram histogram;
    const auto micros = static_cast<int64_t>(random.Next() >> (25 + random.Below(39)));
    histogram.RecordMicros(micros);
    const int64_t shown = histogram.QuantileMicros(0.99).value();
    ASSERT_GE(shown, micros);
    ASSERT_LE(static_cast<double>(shown), static_cast<double>(micros) * 1.0625);
  }
}

TEST(Histogram, QuantilesOfManySamples) {
  LatencyHistogram histogram;
  for (int64_t micros = 1; micros <= 10000; ++micros) histogram.RecordMicros(micros);
  EXPECT_NEAR(static_cast<double>(histogram.QuantileMicros(0.5).value()), 5000, 320);
  EXPECT_NEAR(static_cast<double>(histogram.QuantileMicros(0.99).value()), 9900, 640);
  EXPECT_EQ(histogram.count(), 10000u);
  histogram.Reset();
  EXPECT_EQ(histogram.QuantileMicros(0.5), std::nullopt);
}

TEST(Histogram, ExtremesStayInside) {
  LatencyHistogram histogram;
  histogram.RecordMicros(-5);
  EXPECT_EQ(histogram.QuantileMicros(1), 0);
  histogram.RecordMicros(INT64_MAX);
  EXPECT_GT(histogram.QuantileMicros(1).value(), int64_t{1} << 39);
}

TEST(Histogram, AnotherThreadMayReadWhileOneRecords) {
  LatencyHistogram histogram;
  Counter counter;
  std::thread writer([&] {
    for (int i = 0; i < 20000; ++i) {
      histogram.RecordMicros(100);
      counter.Add(2);
    }
  });
  uint64_t before = 0;
  while (before < 40000) {
    before = counter.value();
    const std::optional<int64_t> seen = histogram.QuantileMicros(0.5);
    EXPECT_EQ(seen.value_or(103), 103);
  }
  writer.join();
  EXPECT_EQ(histogram.count(), 20000u);
}

TEST(MetricNames, ArePrometheusNamesAndUnlikeEachOther) {
  const std::set<std::string_view> names = {
      metric::kChanges,    metric::kTransactions, metric::kCopiedRows,    metric::kLagBytes,
      metric::kLagSeconds, metric::kErrors,       metric::kCommitLatency, metric::kSentBytes,
      metric::kStatements, metric::kMerges,       metric::kMergedRows};
  EXPECT_EQ(names.size(), 11u);
  for (std::string_view name : names) EXPECT_TRUE(name.starts_with("etl_")) << name;
}

}  // namespace
}  // namespace etl

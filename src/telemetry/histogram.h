#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "base/clock.h"

namespace etl {

/// How long things took, in log-linear buckets: 16 to each power of two, so a quantile is at
/// most 6.25 % too high.
///
/// One thread records, any thread reads; neither waits. A reader may see a sample of the instant in
/// one quantile and not yet in the next, never a torn number. Memory is fixed (5 KiB), from 1 µs to
/// 2^40 µs; what is longer counts as the longest.
class LatencyHistogram {
 public:
  /// Negative times (a clock that went back) count as zero.
  void Record(Duration time) {
    RecordMicros(std::chrono::duration_cast<std::chrono::microseconds>(time).count());
  }
  void RecordMicros(int64_t micros);
  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  /// Upper edge, in microseconds, of the bucket in which the `fraction` quantile lies; none without
  /// samples.
  std::optional<int64_t> QuantileMicros(double fraction) const;
  /// Forgets everything. Recording thread only.
  void Reset();

 private:
  static constexpr int kSubBits = 4;
  static constexpr int kExponents = 40 - kSubBits + 1;
  static constexpr size_t kBuckets = (size_t{1} << kSubBits) * kExponents;
  static size_t BucketOf(uint64_t micros);
  static int64_t UpperEdge(size_t bucket);

  std::array<std::atomic<uint64_t>, kBuckets> buckets_{};
  std::atomic<uint64_t> count_{0};
};

}  // namespace etl

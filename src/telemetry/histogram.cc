#include "telemetry/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace etl {

size_t LatencyHistogram::BucketOf(uint64_t micros) {
  constexpr uint64_t kLinear = uint64_t{1} << kSubBits;
  if (micros < kLinear) return static_cast<size_t>(micros);
  // The highest set bit gives the power of two, the kSubBits bits after it the place within.
  const int shift = static_cast<int>(std::bit_width(micros)) - 1 - kSubBits;
  const size_t bucket = (static_cast<size_t>(shift + 1) << kSubBits) +
                        static_cast<size_t>((micros >> shift) - kLinear);
  return std::min(bucket, kBuckets - 1);
}

int64_t LatencyHistogram::UpperEdge(size_t bucket) {
  constexpr size_t kLinear = size_t{1} << kSubBits;
  if (bucket < kLinear) return static_cast<int64_t>(bucket);
  const size_t shift = (bucket >> kSubBits) - 1;
  const uint64_t place = kLinear + (bucket & (kLinear - 1));
  return static_cast<int64_t>(((place + 1) << shift) - 1);
}

void LatencyHistogram::RecordMicros(int64_t micros) {
  std::atomic<uint64_t>& bucket =
      buckets_[BucketOf(static_cast<uint64_t>(std::max<int64_t>(micros, 0)))];
  bucket.store(bucket.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  count_.store(count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

std::optional<int64_t> LatencyHistogram::QuantileMicros(double fraction) const {
  // The buckets are summed here, not taken from count_, so that both come from the same reads.
  std::array<uint64_t, kBuckets> seen;
  uint64_t total = 0;
  for (size_t i = 0; i < kBuckets; ++i)
    total += seen[i] = buckets_[i].load(std::memory_order_relaxed);
  if (total == 0) return std::nullopt;
  const double wanted = std::ceil(std::clamp(fraction, 0.0, 1.0) * static_cast<double>(total));
  const uint64_t rank = std::max<uint64_t>(1, static_cast<uint64_t>(wanted));
  uint64_t below = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    below += seen[i];
    if (below >= rank) return UpperEdge(i);
  }
  return UpperEdge(kBuckets - 1);
}

void LatencyHistogram::Reset() {
  for (std::atomic<uint64_t>& bucket : buckets_) bucket.store(0, std::memory_order_relaxed);
  count_.store(0, std::memory_order_relaxed);
}

}  // namespace etl

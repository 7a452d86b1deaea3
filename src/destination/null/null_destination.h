#pragma once

#include <map>
#include <optional>

#include "destination/destination.h"

namespace etl {

/// Accepts everything and keeps nothing but the position, in memory: for measuring the rest of the
/// engine, and for tests of it. What it is given is durable at the next Advance. Owned and called
/// by one thread; a new object knows nothing.
class NullDestination : public Destination {
 public:
  Result<Checkpoint> Start(const StartOptions& options) override;
  Status BeginHistory(const NewHistory& history) override;
  Status SetTimeline(uint32_t timeline) override;
  bool Ready(Instant now) const override;
  Status Accept(Delivery delivery) override;
  Result<Progress> Advance(Instant now) override;
  Status Read(const ReadOptions& options) override;
  Status Forget() override { return Status::OK(); }
  Status Shutdown(Instant deadline) override;

  int64_t rows() const { return rows_; }
  /// Called with each segment when it is taken: the moment at which a ready destination sees it.
  void OnSegment(std::function<void(const Segment&)> callback) {
    on_segment_ = std::move(callback);
  }

 private:
  Lsn position_;
  std::optional<Delivery> delivery_;
  std::map<uint32_t, int64_t> copied_;
  int64_t rows_ = 0;
  std::function<void(const Segment&)> on_segment_;
};

}  // namespace etl

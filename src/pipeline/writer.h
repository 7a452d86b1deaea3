#pragma once

#include <deque>
#include <optional>
#include <utility>

#include "destination/destination.h"
#include "pipeline/messages.h"
#include "runtime/stage.h"
#include "telemetry/histogram.h"

namespace etl {

/// The writer stage: takes deliveries when the destination is ready for one, lets it work, and
/// tells the reader what has become durable. Its thread is the only one that calls the destination.
/// Owned by the pipeline.
class Writer : public Stage {
 public:
  /// `stored`: commit received → stored at the destination; may be null.
  Writer(Destination* destination, DeliveryChannel* deliveries, ReplyChannel* replies,
         LatencyHistogram* stored, const Clock& clock);
  Result<Wake> Step(Instant now) override;
  void AddPollFds(std::vector<pollfd>& fds) override;

 private:
  bool Reply();

  Destination* const destination_;
  DeliveryChannel* const deliveries_;
  ReplyChannel* const replies_;
  LatencyHistogram* const stored_;
  const Clock& clock_;
  std::deque<std::pair<Lsn, Instant>> received_;  ///< segments on their way: end → when received
  uint64_t accepted_ = 0;
  uint64_t reported_ = 0;
  Lsn applied_;
  std::optional<WriterReply> unsent_;
};

}  // namespace etl

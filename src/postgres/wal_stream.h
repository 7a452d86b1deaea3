#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include <poll.h>

#include "base/clock.h"
#include "base/status.h"
#include "model/position.h"

namespace etl {

/// A running START_REPLICATION. Owned and called by the reader; never waits.
/// Frames are CopyData payloads ('w' and 'k', PostgreSQL manual "Streaming Replication Protocol").
class WalStream {
 public:
  virtual ~WalStream() = default;
  /// The next frame that is at hand, valid until the next call; none if there is none yet.
  /// The end of the stream is an error: kTransient if it may be started anew.
  virtual Result<std::optional<std::string_view>> Next(Instant now) = 0;
  /// Queues a standby status update and sends what the socket takes: `flushed` must be stored at
  /// the destination already (rule 2.2). Positions never go back.
  virtual Status SendStatus(Lsn received, Lsn flushed, bool request_reply) = 0;
  /// After Next gave none: by when to look again. kNever while idle (the descriptors tell); soon
  /// while busy, so that the server's many small writes are taken in few large reads.
  virtual Instant LookAgainBy(Instant now) = 0;
  virtual void AddPollFds(std::vector<pollfd>& fds) = 0;
  /// Sends a last status and ends the stream; waits no longer than `deadline`.
  virtual void Close(Lsn received, Lsn flushed, Instant deadline) = 0;
};

}  // namespace etl

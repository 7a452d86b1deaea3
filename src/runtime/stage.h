#pragma once

#include <vector>

#include <poll.h>

#include "base/clock.h"
#include "base/status.h"

namespace etl {

/// The answer of a Step: was anything done, and by when must it be called again if nothing else
/// wakes it. `by` is later than `now` if nothing was done.
struct Wake {
  bool worked = false;
  Instant by = kNever;
};

/// A stage of a pipeline as a step function (architecture, decision 5): does a bounded amount of
/// work without waiting. Calling Step early or twice is always allowed. Owned and called by one
/// thread, or by the simulator's loop.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual Result<Wake> Step(Instant now) = 0;
  /// What to wait for when nothing was done: sockets and channel descriptors. Appends.
  virtual void AddPollFds(std::vector<pollfd>& fds) = 0;
};

}  // namespace etl

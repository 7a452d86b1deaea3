#include "runtime/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>

#include "base/check.h"

namespace etl {

EventFd::EventFd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { ETL_CHECK(fd_ >= 0); }
EventFd::~EventFd() { close(fd_); }

void EventFd::Notify() {
  if (notified_.exchange(true, std::memory_order_acq_rel)) return;
  const uint64_t one = 1;
  // Fails only when the counter is full, and then the descriptor is readable already.
  [[maybe_unused]] const ssize_t written = write(fd_, &one, sizeof one);
}

void EventFd::Clear() {
  if (!notified_.load(std::memory_order_acquire)) return;
  uint64_t count = 0;
  // Nothing to read yet: the notifier has not come to its write. It will wake this thread then, and
  // the flag has to stay, or the descriptor would be readable without it for ever.
  if (read(fd_, &count, sizeof count) != sizeof count) return;
  // After the read: who notifies in between finds the flag set and does not write, and what it did
  // before is seen by the look that follows.
  notified_.exchange(false, std::memory_order_acq_rel);
}

}  // namespace etl

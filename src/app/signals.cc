#include "app/signals.h"

#include <cerrno>

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

namespace etl {

SignalWatcher::SignalWatcher(Interrupt& interrupt) : interrupt_(interrupt) {
  sigset_t watched;
  sigemptyset(&watched);
  for (int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&watched, number);
  ETL_CHECK(pthread_sigmask(SIG_BLOCK, &watched, &before_) == 0);
  signal(SIGPIPE, SIG_IGN);
  signals_ = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
  ETL_CHECK(signals_ >= 0);
  thread_ = std::thread([this] { Watch(); });
}

SignalWatcher::~SignalWatcher() {
  end_.Notify();
  thread_.join();
  close(signals_);
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void SignalWatcher::Watch() {
  while (true) {
    pollfd fds[2] = {{signals_, POLLIN, 0}, {end_.fd(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0 && errno != EINTR) return;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info = {};
    while (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo == SIGHUP) {
        interrupt_.RequestReload();
      } else if (interrupt_.stopping()) {
        // Like kill -9: what is stored at the destination is consistent at any instant.
        _exit(128 + static_cast<int>(info.ssi_signo));
      } else {
        LogInfo("stopping; the same signal again ends at once");
        interrupt_.RequestStop();
      }
    }
  }
}

}  // namespace etl

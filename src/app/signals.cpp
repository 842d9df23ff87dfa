#include "app/signals.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include <boost/asio/signal_set.hpp>

#include "base/log.hpp"
#include "runtime/loop.hpp"

namespace sluice::app {

struct Signals::State : std::enable_shared_from_this<State> {
  State(runtime::Loop& loop, Callbacks to_call) : callbacks(std::move(to_call)), set(loop, SIGTERM, SIGINT, SIGHUP) {}

  void wait() {
    set.async_wait([self = shared_from_this()](const boost::system::error_code& ec, int signal) {
      if (ec || self->cancelled) return;
      self->wait();
      self->received(signal);
    });
  }

  void received(int signal) {
    if (signal == SIGHUP) {
      log::info("app", "SIGHUP: reopening log files and reloading the configuration");
      if (callbacks.reopen_logs) callbacks.reopen_logs();
    } else if (!draining) {
      draining = true;
      log::info("app", signal == SIGINT
                           ? "SIGINT: stopping when running requests have ended; send it again to stop at once"
                           : "SIGTERM: stopping when running requests have ended; send it again to stop at once");
      if (callbacks.drain) callbacks.drain();
    } else {
      log::warn("app", "a second signal: stopping at once");
      if (callbacks.stop_now) callbacks.stop_now();
    }
  }

  const Callbacks callbacks;
  runtime::asio::signal_set set;
  bool draining = false;
  bool cancelled = false;
};

Signals::Signals(runtime::Loop& loop, Callbacks callbacks)
    : state_(std::make_shared<State>(loop, std::move(callbacks))) {}

Signals::~Signals() { cancel(); }

void Signals::start() { state_->wait(); }

void Signals::cancel() {
  state_->cancelled = true;
  boost::system::error_code ignored;
  state_->set.cancel(ignored);
}

void ignore_signals_of_writes() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
}

bool open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number, which is this one.
    if (::open("/dev/null", O_RDWR) != fd) return false;
  }
  return true;
}

std::size_t raise_open_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  if (limit.rlim_cur < limit.rlim_max) {
    const rlimit wanted{limit.rlim_max, limit.rlim_max};
    if (::setrlimit(RLIMIT_NOFILE, &wanted) == 0) return wanted.rlim_cur;
  }
  return limit.rlim_cur;
}

}  // namespace sluice::app

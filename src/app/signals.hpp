// The process's signals, as calls on one loop.
//
// SIGTERM and SIGINT: the first asks to drain, a second to stop at once. SIGHUP: log files are opened again, and the
// configuration is read again. SIGPIPE and SIGXFSZ are ignored: every send reports a broken connection by itself, every
// write that a file may not grow (RLIMIT_FSIZE).
//
// Threads: made, started and destroyed on the thread that owns `loop` or before it runs; the callbacks run on the loop.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

namespace sluice::runtime {
class Loop;
}

namespace sluice::app {

class Signals {
 public:
  struct Callbacks {
    std::function<void()> drain;
    std::function<void()> stop_now;
    std::function<void()> reopen_logs;
  };

  Signals(runtime::Loop& loop, Callbacks callbacks);
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  ~Signals();

  // Waits for signals until cancel(). The wait counts as work of the loop.
  void start();
  void cancel();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// SIGPIPE and SIGXFSZ are ignored from here on. Called by main before any thread starts.
void ignore_signals_of_writes();

// Opens those of the descriptors 0 to 2 that are closed on /dev/null, so that no file or socket gets such a number and
// then what is meant for standard output or error. Before anything else in main. False: it cannot be done.
bool open_standard_descriptors();

// Raises the soft limit of open files to the hard one. Returns the limit that now holds.
std::size_t raise_open_file_limit();

}  // namespace sluice::app

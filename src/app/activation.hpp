// Sockets that a supervisor has opened for us (systemd's socket activation, sd_listen_fds(3)): LISTEN_PID names this
// process, LISTEN_FDS says how many there are, from descriptor 3 on, LISTEN_FDNAMES what they are called.
#pragma once

#include <vector>

#include "base/result.hpp"

namespace sluice::app {

struct Activation {
  std::vector<int> registry;  // those with any other name
  std::vector<int> admin;     // those called "admin"
};

// Takes them over: they are closed when a program is started from here, and the variables are gone afterwards, so that
// no child takes them for its own. Once, before any thread runs. Errors: config_invalid.
Result<Activation> take_activation();

}  // namespace sluice::app

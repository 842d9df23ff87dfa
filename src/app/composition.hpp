// Where the program is put together: every component is made here, handed what it needs, started and stopped.
#pragma once

#include <functional>

#include "base/result.hpp"
#include "config/settings.hpp"

namespace sluice::app {

// The configuration as it is now, from where it came. Called on a thread of its own.
using LoadAgain = std::function<Result<config::Settings>()>;

// Serves until SIGTERM or SIGINT, then drains. Called once, by main, on its thread, with logging configured and signals
// not yet touched. Returns the process's exit status (exit_status.hpp): 0 after an orderly end, 1 when something could
// not be started, with one line in the log that says what.
int serve(const config::Settings& settings, LoadAgain load_again);

}  // namespace sluice::app

// health: whether the running sluice serves. See command.hpp.
#pragma once

#include <string>

#include "app/commands/options.hpp"
#include "app/commands/runner.hpp"

namespace sluice::app {

// Asks /readyz on `admin`, ADDR:PORT.
int health_command(Runner& runner, const std::string& admin, const CommandOptions& options);

}  // namespace sluice::app

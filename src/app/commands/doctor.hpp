// doctor: what the clients on this machine do with the cache. See command.hpp.
#pragma once

#include "app/commands/options.hpp"
#include "app/commands/runner.hpp"
#include "config/settings.hpp"

namespace sluice::app {

// Reads their configuration, sends a canary by the way of each, and prints what is wrong. `admin`, ADDR:PORT: of the
// cache.
int doctor_command(Runner& runner, const config::Settings& settings, const std::string& admin,
                   const CommandOptions& options);

}  // namespace sluice::app

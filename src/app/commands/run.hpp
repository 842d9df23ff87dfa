// Runs a command other than serve, check-config and version. Called once, by main, on its thread.
#pragma once

#include "app/command_line.hpp"
#include "config/settings.hpp"

namespace sluice::app {

// `config_named`: the settings come from a file. Returns the exit status; what went wrong stands on standard error.
int run_command(const CommandLine& line, const config::Settings& settings, bool config_named);

// `sluice reload` where the configuration that is named has mistakes; `readable`: what of it can be read.
int reload_despite(const CommandLine& line, const config::Settings& readable, const std::string& mistakes);

}  // namespace sluice::app

// check-config, of the files that the configuration names: what only shows when they are used.
#pragma once

#include <string>

#include "config/settings.hpp"

namespace sluice::app {

// A line for each one that is wrong; empty when all are as they should be. Reads the files.
std::string wrong_files(const config::Settings& settings);

}  // namespace sluice::app

// What a person reads when the cache has started: where it listens, and what to write into which client's file.
#pragma once

#include <string>
#include <vector>

#include "config/settings.hpp"

namespace sluice::app {

// A block of plain text that ends with a newline. `listen` is where the server really listens (the port is known).
std::string client_hints(const config::Settings& settings, const config::Endpoint& listen,
                         const config::Endpoint& admin);

}  // namespace sluice::app

// From an upstream's configuration to what HttpRegistry wants. Called at the start, by one thread.
#pragma once

#include <cstddef>
#include <string>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "config/settings.hpp"
#include "upstream/http_registry.hpp"

namespace sluice::app {

// Throws std::runtime_error where the configuration cannot be followed; no message holds a secret. `clock` and
// `registry` outlive what is made of it.
upstream::HttpRegistry::Params registry_params(const config::Settings& settings, const std::string& name,
                                               const config::Upstream& from, std::size_t receive_buffer_bytes,
                                               const Clock& clock, metrics::Registry& registry);

}  // namespace sluice::app

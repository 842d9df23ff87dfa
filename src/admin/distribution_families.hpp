// The metrics of distribution (registry:2 and registry:3) under their own names, so that the dashboards and alerts of
// those who move over go on working. They are sums of the cache's own counters, made when somebody scrapes. Pure.
#pragma once

#include <vector>

#include "base/metrics.hpp"

namespace sluice::admin {

// Adds registry_proxy_* and registry_storage_cache_* to what a Registry has collected, and keeps the order by name.
// docs/metrics.md says what each is made of.
void add_distribution_families(std::vector<metrics::Family>& families);

}  // namespace sluice::admin

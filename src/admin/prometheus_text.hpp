// The Prometheus text exposition format 0.0.4 of our counters. Pure; any thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.hpp"

namespace sluice::admin {

inline constexpr std::string_view kPrometheusContentType = "text/plain; version=0.0.4; charset=utf-8";

std::string prometheus_text(const std::vector<metrics::Family>& families);

}  // namespace sluice::admin

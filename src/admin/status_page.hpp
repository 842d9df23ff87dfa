// The page that a person sees at the admin address. Pure; any thread.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "admin/readiness.hpp"
#include "base/metrics.hpp"

namespace sluice::admin {

struct StatusPage {
  std::string_view version;
  std::chrono::seconds uptime{0};
  const std::vector<Readiness::Check>& checks;
  const std::vector<metrics::Family>& families;
};

// A whole HTML document without scripts or anything that it would load.
std::string render(const StatusPage& page);

// The text with what means something in HTML escaped.
std::string html_escaped(std::string_view text);

}  // namespace sluice::admin

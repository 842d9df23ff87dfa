#include "config/report.hpp"

#include <algorithm>
#include <tuple>

#include "base/mask.hpp"

namespace sluice::config {

void Report::problem(const Place& place, std::string_view text) {
  problems_.push_back(
      {place.source, place.line, problems_.size(), mask_userinfo(place.name + ": " + std::string(text))});
}

void Report::warning(std::string_view text) { warnings_.push_back(mask_userinfo(text)); }

Place Report::origin(const std::string& path) const {
  const auto at = origins_.find(path);
  return at == origins_.end() ? Place{Source::embedded, path, 0} : at->second;
}

std::string Report::text() const {
  std::vector<Problem> sorted = problems_;
  std::sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.source, a.line, a.index) < std::tie(b.source, b.line, b.index);
  });
  std::string out;
  for (const Problem& problem : sorted) out += (out.empty() ? "" : "\n") + problem.text;
  return out;
}

}  // namespace sluice::config

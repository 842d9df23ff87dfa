#include "admin/families.hpp"

#include <algorithm>

namespace sluice::admin {

const metrics::Family* find(const Families& families, std::string_view name) {
  const auto at = std::find_if(families.begin(), families.end(), [&](const auto& f) { return f.name == name; });
  return at == families.end() ? nullptr : &*at;
}

std::string_view label(const metrics::Sample& sample, std::string_view name) {
  for (const auto& [key, value] : sample.labels) {
    if (key == name) return value;
  }
  return {};
}

double sum(const Families& families, std::string_view name, std::string_view key, std::string_view value) {
  double out = 0;
  if (const metrics::Family* family = find(families, name)) {
    for (const metrics::Sample& sample : family->samples) {
      if (key.empty() || label(sample, key) == value) out += sample.value;
    }
  }
  return out;
}

Requests requests_of(const Families& families, std::string_view name) {
  const auto of = [&](std::string_view result) { return sum(families, name, "result", result); };
  return {of("hit"), of("join"), of("stale"), of("miss"), of("unknown"), of("denied"), of("error")};
}

}  // namespace sluice::admin

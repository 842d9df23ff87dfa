// The names under which upstreams are known, as the configuration and clients write them.
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

namespace sluice {

// Docker Hub's other names, which clients put into `ns` and old configurations into image references.
inline constexpr std::array<std::string_view, 3> kDockerHubNames{"index.docker.io", "registry-1.docker.io",
                                                                 "registry.hub.docker.com"};

// Two names that are the same here mean the same upstream.
inline std::string canonical_upstream_name(std::string_view name) {
  std::string out(name);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  if (std::find(kDockerHubNames.begin(), kDockerHubNames.end(), out) != kDockerHubNames.end()) return "docker.io";
  return out;
}

}  // namespace sluice

// What the doctor knows about the cache: where clients reach it, and which registries it serves. A value.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "doctor/report.hpp"

namespace sluice::doctor {

struct Cache {
  struct Place {
    std::string host;  // an IP address or a name, lowercase; empty: every address of its machine
    std::uint16_t port = 0;
  };
  std::vector<Place> places{{"127.0.0.1", 5000}};
  std::vector<std::string> local_hosts;  // addresses and names of this machine; empty: not known
  bool tls = false;
  std::vector<std::string> upstreams;  // as images name them
  std::string default_upstream = "docker.io";
  std::string host_pattern;  // as server.host_pattern

  // Whether a client that connects there reaches the cache.
  [[nodiscard]] bool is_at(std::string_view host, std::uint16_t port) const;
  // The same with any other port.
  [[nodiscard]] bool is_on(std::string_view host) const;
  [[nodiscard]] bool serves(std::string_view registry) const;

  // Which image the cache takes a request for `repository` by `way` for: "ghcr.io/owner/app"; nothing where the path is
  // none of its API. The rules are those of access/upstreams.cpp.
  [[nodiscard]] std::optional<std::string> image_of(const Way& way, std::string_view repository) const;

  // "127.0.0.1:5000", the first place.
  [[nodiscard]] std::string describe() const;
};

}  // namespace sluice::doctor

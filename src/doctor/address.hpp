// The address of a mirror, as people write it into a client's file. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::doctor {

struct Address {
  std::string scheme;  // lowercase; empty: none was written
  std::string host;    // lowercase, without brackets; may be empty
  std::optional<std::uint16_t> port;
  std::string path;  // "/v2/docker.io"; empty or with a slash in front, without one at the end
  bool odd = false;  // a user, a query, a fragment, or a port that is none

  // Takes everything; what makes no sense is `odd`.
  static Address parse(std::string_view text);

  // 443 or 80 where there is none, by `scheme`, or by `fallback` where that is empty.
  [[nodiscard]] std::uint16_t port_or(std::string_view fallback) const;
  // "host", "host:5000", "[::1]:5000", as it was written.
  [[nodiscard]] std::string authority() const;
};

// "127.0.0.1:5000", "[::1]:5000".
std::string host_port(std::string_view host, std::uint16_t port);
// localhost, 127.0.0.0/8 and ::1.
bool is_loopback(std::string_view host);
std::string lower(std::string_view text);

}  // namespace sluice::doctor

// What a proxy in front says of its client: the PROXY protocol, versions 1 and 2 (haproxy, doc/proxy-protocol.txt), at
// the head of a connection, and X-Forwarded-For in each request. Pure functions; who is believed is the caller's
// affair.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/network.hpp"

namespace sluice::http {

// The longest header that is taken: with all its TLVs that of version 2 stays well below.
inline constexpr std::size_t kMaxProxyHeaderBytes = 4096;

struct ProxyHeader {
  enum class State : std::uint8_t { need_more, complete, garbage };
  struct Source {
    IpAddress address;
    std::uint16_t port = 0;
  };

  State state = State::need_more;
  std::size_t bytes = 0;  // of the header, once it is complete
  // Nothing where the proxy speaks for itself (LOCAL, a health check) or does not know (UNKNOWN, UNSPEC).
  std::optional<Source> source;
};

// `bytes`: all that has been received of the connection. Strict: what no further byte can mend is garbage at once.
ProxyHeader parse_proxy_header(std::string_view bytes);

// The client in the value of X-Forwarded-For: the last address that is none of `trusted`, since everything to its left
// is the client's own word. All of them trusted: the first. Nothing for an empty value, or one whose last entry, which
// is that of the proxy that we believe, is no address; an entry further left that is none ends the search before it.
// Addresses may have a port ("10.0.0.1:80", "[::1]:80"), as some proxies write them.
std::optional<IpAddress> forwarded_client(std::string_view value, const NetworkList& trusted);

}  // namespace sluice::http

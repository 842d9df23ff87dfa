// AddressKind: what kind of network an IP address belongs to. Values; pure functions; any thread.
//
// From IANA's special-purpose registries for IPv4 and IPv6 (RFC 6890, RFC 8190), as of 2025. An IPv6 address that a
// translator or a tunnel turns into an IPv4 address is of the kind of that one: IPv4-mapped (RFC 4291), NAT64 (RFC
// 6052, RFC 8215), 6to4 (RFC 3056) and Teredo (RFC 4380).
#pragma once

#include <cstdint>
#include <vector>

#include "base/network.hpp"

namespace sluice {

enum class AddressKind : std::uint8_t {
  global,        // globally reachable unicast
  loopback,      // this machine
  private_use,   // RFC 1918, RFC 4193
  shared,        // carrier-grade NAT (RFC 6598)
  benchmarking,  // RFC 2544, RFC 5180; some VPN clients give such addresses to all names
  metadata,      // a cloud's service that gives a machine its credentials, whatever network its address is taken from
  special,       // everything else: link-local, unspecified, multicast, documentation, reserved
};

AddressKind kind_of(const IpAddress& address);

// The IPv4 addresses that an IPv6 address is translated to: none for most, several where the translator's prefix length
// is not known (64:ff9b:1::/48).
std::vector<IpAddress> translated(const IpAddress& address);

}  // namespace sluice

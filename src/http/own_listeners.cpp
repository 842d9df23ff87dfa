#include "http/own_listeners.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "base/address_kind.hpp"

namespace sluice::http {
namespace {

bool is_unspecified(const IpAddress& address) {
  static const IpAddress v4_any = IpAddress::parse("0.0.0.0").value_or(IpAddress());
  return address == IpAddress() || address == v4_any;
}

// The source address that the kernel would choose for a packet to `to`; `to` itself where that is ours (RFC 6724 rule 1
// for IPv6, the local routing table for IPv4). Sends nothing.
bool is_chosen_source(const IpAddress& to) {
  const int family = to.is_v4() ? AF_INET : AF_INET6;
  const int fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_storage address{};
  socklen_t size = 0;
  if (to.is_v4()) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(address);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(9);
    std::copy(to.bytes().begin() + 12, to.bytes().end(), reinterpret_cast<std::uint8_t*>(&v4.sin_addr));
    size = sizeof v4;
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(9);
    std::copy(to.bytes().begin(), to.bytes().end(), v6.sin6_addr.s6_addr);
    size = sizeof v6;
  }
  bool same = false;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), size) == 0) {
    sockaddr_storage own{};
    socklen_t own_size = sizeof own;
    same = ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_size) == 0 &&
           IpAddress::from(reinterpret_cast<const sockaddr&>(own)) == to;
  }
  ::close(fd);
  return same;
}

bool is_of_this_machine(const IpAddress& address) {
  return is_unspecified(address) || kind_of(address) == AddressKind::loopback || is_chosen_source(address);
}

}  // namespace

void OwnListeners::add(const IpAddress& address, std::uint16_t port) {
  const std::scoped_lock lock(mutex_);
  listeners_.emplace_back(address, port);
}

bool OwnListeners::contains(const IpAddress& to, std::uint16_t port) const {
  bool on_all = false;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [address, own_port] : listeners_) {
      if (own_port != port) continue;
      // The unspecified address leads to loopback.
      if (address == to || is_unspecified(to)) return true;
      on_all = on_all || is_unspecified(address);
    }
  }
  return on_all && is_of_this_machine(to);
}

}  // namespace sluice::http

// AddressPolicy: where a server may send us, by a redirect, a token realm or a link. Held against every address that is
// dialled, after the name was resolved, and against the address of a kept connection before it is used again, so a name
// that changes its addresses gains nothing.
//
// Permitted are globally reachable addresses; addresses of the kind that the server itself has (loopback, private,
// shared, benchmarking), and its very own; and the networks that are named. Never a port on which this program listens.
//
// Immutable; any thread. Shared by the requests that it is for.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/network.hpp"
#include "http/own_listeners.hpp"

namespace sluice::http {

class AddressPolicy {
 public:
  // `own_listeners` may be null.
  AddressPolicy(NetworkList named, std::shared_ptr<const OwnListeners> own_listeners);

  // `sender`: the address of the server whose word it is; nothing where it is not known, behind a proxy.
  [[nodiscard]] bool permits(const IpAddress& to, std::uint16_t port, const std::optional<IpAddress>& sender) const;

  // The same for what a proxy resolves: only a host that is written as an address, in any way that getaddrinfo takes,
  // or as localhost, can be looked at. True for all other names.
  [[nodiscard]] bool permits_host(const std::string& host, std::uint16_t port,
                                  const std::optional<IpAddress>& sender) const;

 private:
  const NetworkList named_;
  const std::shared_ptr<const OwnListeners> own_listeners_;
};

// What sends a request to an address that the configuration does not name.
struct Referral {
  std::shared_ptr<const AddressPolicy> policy;  // not null
  std::optional<IpAddress> sender;
};

}  // namespace sluice::http

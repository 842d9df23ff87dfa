// OwnListeners: the addresses and ports that this program accepts connections on. What a server sends us to must not be
// one of them.
//
// One for the program, shared by its servers, which add to it, and by the policies of its clients, which read it.
// Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <utility>
#include <vector>

#include "base/network.hpp"

namespace sluice::http {

class OwnListeners {
 public:
  // `address` may be the unspecified one, for all of the machine's addresses.
  void add(const IpAddress& address, std::uint16_t port);

  // Whether a connection to `to` and `port` would come in here. A listener on all addresses counts for every address of
  // this machine as it is now; one behind an address translation elsewhere cannot be seen from here.
  [[nodiscard]] bool contains(const IpAddress& to, std::uint16_t port) const;

 private:
  mutable std::mutex mutex_;  // guards listeners_
  std::vector<std::pair<IpAddress, std::uint16_t>> listeners_;
};

}  // namespace sluice::http

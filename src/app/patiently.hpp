// What a process that is about to end has for a moment longer: the data directory, a port.
#pragma once

#include <chrono>
#include <thread>
#include <vector>

#include "base/result.hpp"
#include "config/settings.hpp"
#include "http/server.hpp"

namespace sluice::app {

// Tries again for a while, as long as it `exists` already. Blocks.
template <class F>
Result<void> patiently(F attempt) {
  constexpr std::chrono::seconds kPatience{2};
  constexpr std::chrono::milliseconds kPause{50};
  const auto until = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    Result<void> done = attempt();
    if (done || done.error().code != Errc::exists || std::chrono::steady_clock::now() >= until) return done;
    std::this_thread::sleep_for(kPause);
  }
}

// On the supervisor's sockets, where there are some.
inline Result<void> listen(http::Server& server, const std::vector<int>& given, const config::Endpoint& address) {
  if (!given.empty()) return server.listen_on(given);
  return patiently([&] { return server.listen(address.to_string()); });
}

}  // namespace sluice::app

// How long a client's request waits for upstream's word: until the answer_by of its route. What has been asked goes on
// without it, for whoever asks next.
#pragma once

#include <utility>

#include "proxy/upstreams.hpp"
#include "runtime/within.hpp"

namespace sluice::proxy {

inline Error not_in_time(const Route& route) {
  return {Errc::upstream_timeout,
          std::string(route.registry->name()) + " has not answered in time; it is still being asked, so try again"};
}

// The outcome of a SingleFlight, or `upstream_timeout`. The route lives until then.
template <class Outcome>
runtime::Task<Outcome> wait_for(const Route& route, runtime::Task<Outcome> flight) {
  std::optional<Outcome> outcome = co_await runtime::within(std::move(flight), route.answer_by);
  if (outcome) co_return std::move(*outcome);
  co_return Outcome{not_in_time(route), true};
}

}  // namespace sluice::proxy

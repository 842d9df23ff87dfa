// How long a client's request waits for upstream's word: until the answer_by of its route. What has been asked goes on
// without it, for whoever asks next.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "access/upstreams.hpp"
#include "runtime/within.hpp"

namespace sluice::access {

inline Error not_in_time(std::string_view upstream) {
  return {Errc::upstream_timeout,
          std::string(upstream) + " has not answered in time; it is still being asked, so try again"};
}
inline Error not_in_time(const Route& route) { return not_in_time(route.registry->name()); }

// The route of work that many may wait for, none of whom says when it has to end: it goes on for whoever asks next. It
// does end, however slowly upstream gives one page after another.
inline Route for_all(Route route) {
  constexpr int kTimes = 10;
  route.answer_by = std::chrono::steady_clock::time_point::max();
  if (route.request_timeout.count() > 0) {
    route.answer_by = std::chrono::steady_clock::now() + kTimes * route.request_timeout;
  }
  return route;
}

// What upstream says by then, or `upstream_timeout`. The route lives until then.
template <class T>
runtime::Task<Result<T>> in_time(const Route& route, runtime::Task<Result<T>> task,
                                 std::chrono::steady_clock::time_point until) {
  std::optional<Result<T>> result = co_await runtime::within(std::move(task), until);
  if (result) co_return std::move(*result);
  co_return not_in_time(route);
}
template <class T>
runtime::Task<Result<T>> in_time(const Route& route, runtime::Task<Result<T>> task) {
  return in_time(route, std::move(task), route.answer_by);
}

// The outcome of a SingleFlight, or `upstream_timeout`. The route lives until then.
template <class Outcome>
runtime::Task<Outcome> wait_for(const Route& route, runtime::Task<Outcome> flight) {
  std::optional<Outcome> outcome = co_await runtime::within(std::move(flight), route.answer_by);
  if (outcome) co_return std::move(*outcome);
  co_return Outcome{not_in_time(route), true};
}

}  // namespace sluice::access

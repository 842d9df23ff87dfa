// A task with an end: it is waited for until then, and cancelled where it has not ended.
#pragma once

#include <chrono>
#include <optional>
#include <utility>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/task.hpp"
#include "runtime/timer.hpp"

namespace sluice::runtime {

inline Task<void> sleep_until(std::chrono::steady_clock::time_point until) {
  Timer timer(co_await asio::this_coro::executor);
  timer.expires_at(until);
  co_await timer.async_wait(kAwait);
}

// What `task` gives, or nothing when it has not ended by `until` (time_point::max(): it is waited for as long as it
// takes). It is awaited to its end in any case, so what it refers to may go afterwards.
template <class T>
Task<std::optional<T>> within(Task<T> task, std::chrono::steady_clock::time_point until) {
  if (until == std::chrono::steady_clock::time_point::max()) co_return co_await std::move(task);
  using namespace asio::experimental::awaitable_operators;
  auto ended = co_await (std::move(task) || sleep_until(until));
  if (ended.index() != 0) co_return std::nullopt;
  co_return std::optional<T>(std::get<0>(std::move(ended)));
}

}  // namespace sluice::runtime

#include "runtime/every.hpp"

#include <exception>
#include <utility>

#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/timer.hpp"

namespace sluice::runtime {

Task<void> sleep_for(std::chrono::nanoseconds duration) {
  Timer timer(co_await asio::this_coro::executor);
  timer.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(duration));
  co_await timer.async_wait(kAwait);
}

Task<void> every(std::string name, std::chrono::nanoseconds interval, std::function<Task<void>()> body) {
  for (;;) {
    co_await sleep_for(interval);
    co_await attempt(name, body());
  }
}

Task<void> attempt(std::string name, Task<void> body) {
  std::exception_ptr failure;
  std::string what;
  try {
    co_await std::move(body);
  } catch (const std::exception& error) {
    failure = std::current_exception();
    what = error.what();
  }
  if (!failure) co_return;
  const asio::cancellation_state state = co_await asio::this_coro::cancellation_state;
  if (state.cancelled() != asio::cancellation_type::none) std::rethrow_exception(failure);
  log::error(name, fmt::format("background work failed: {}", what));
}

}  // namespace sluice::runtime

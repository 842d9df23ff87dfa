#include "app/loop_watch.hpp"

#include <algorithm>

#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/timer.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using runtime::Timer;

constexpr auto kBeat = 500ms;

}  // namespace

LoopWatch::LoopWatch(const ServiceManager& manager, std::size_t loops, metrics::Registry& registry)
    : manager_(manager),
      lag_(registry.histogram("sluice_loop_lag_seconds", "How late the event loops get to work that is due.",
                              metrics::latency_bounds())),
      beats_(loops),
      seen_(loops, 0) {}

void LoopWatch::start(runtime::LoopPool& loops, runtime::Loop& watcher, runtime::TaskGroup& tasks) {
  std::chrono::milliseconds look_every{0};
  // systemd asks for half of its time or less (sd_watchdog_enabled(3)).
  if (manager_.watchdog()) {
    look_every = std::max(std::chrono::duration_cast<std::chrono::milliseconds>(*manager_.watchdog()) / 3,
                          std::chrono::milliseconds{30});
  }
  // More often than is looked at, so that a loop that runs has always beaten since.
  const std::chrono::milliseconds beat_every =
      look_every == 0ms ? kBeat : std::min<std::chrono::milliseconds>(kBeat, look_every / 3);
  for (std::size_t i = 0; i < loops.size(); ++i) tasks.spawn(loops.at(i).get_executor(), beat(i, beat_every));
  if (look_every != 0ms) tasks.spawn(watcher.get_executor(), watch(look_every));
}

runtime::Task<void> LoopWatch::beat(std::size_t loop, std::chrono::milliseconds interval) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  Timer timer(executor);
  for (;;) {
    beats_[loop].fetch_add(1, std::memory_order_relaxed);
    timer.expires_after(interval);
    co_await timer.async_wait(runtime::kAwait);
    lag_.observe(std::chrono::duration<double>(Clock::now() - timer.expiry()).count());
  }
}

runtime::Task<void> LoopWatch::watch(std::chrono::milliseconds interval) {
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  Timer timer(executor);
  for (;;) {
    timer.expires_after(interval);
    co_await timer.async_wait(runtime::kAwait);
    look();
  }
}

bool LoopWatch::look() {
  bool all = true;
  for (std::size_t i = 0; i < beats_.size(); ++i) {
    const std::uint64_t now = beats_[i].load(std::memory_order_relaxed);
    if (now == seen_[i]) {
      all = false;
      log::error("app", fmt::format("event loop {} hangs; not sending the watchdog message to the service manager", i));
    }
    seen_[i] = now;
  }
  if (all) manager_.alive();
  return all;
}

}  // namespace sluice::app

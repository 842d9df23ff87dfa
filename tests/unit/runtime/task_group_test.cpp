#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>

#include <catch2/catch.hpp>

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include "base/log.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"

using namespace sluice;
using namespace sluice::runtime;
using namespace std::chrono_literals;

namespace {

using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

// Long enough for any machine; reached only when a test fails.
constexpr auto kPatience = 60s;

Task<void> count(std::atomic<int>& done) {
  ++done;
  co_return;
}

// Waits until it is cancelled, and says so.
Task<void> wait_for_ever(std::atomic<int>& started, std::atomic<int>& cancelled) {
  Timer timer(co_await asio::this_coro::executor, std::chrono::hours(24));
  ++started;
  const auto [ec] = co_await timer.async_wait(kAwaitTuple);
  if (ec == asio::error::operation_aborted) ++cancelled;
}

Task<void> fail() {
  throw std::runtime_error("a bug");
  co_return;
}

Task<void> hold(std::shared_ptr<int> kept, std::shared_future<void> until) {
  until.wait();
  static_cast<void>(kept);
  co_return;
}

}  // namespace

TEST_CASE("TaskGroup: it knows when all of its tasks have ended", "[runtime]") {
  LoopPool loops(2);
  loops.start();
  TaskGroup group("test");
  std::atomic<int> done{0};
  for (int i = 0; i < 100; ++i)
    CHECK(group.spawn(loops.at(static_cast<std::size_t>(i) % 2).get_executor(), count(done)));
  CHECK(group.wait_for(kPatience));
  CHECK(done == 100);
  CHECK(group.size() == 0);
  loops.stop();
}

TEST_CASE("TaskGroup: cancelling ends tasks that wait", "[runtime]") {
  LoopPool loops(2);
  loops.start();
  TaskGroup group("test");
  std::atomic<int> started{0};
  std::atomic<int> cancelled{0};
  for (std::size_t i = 0; i < 20; ++i) group.spawn(loops.at(i % 2).get_executor(), wait_for_ever(started, cancelled));
  // Each is cancelled whether it has started already or not; those that had must have noticed.
  group.cancel();
  CHECK(group.wait_for(kPatience));
  CHECK(cancelled == started);
  loops.stop();
}

TEST_CASE("TaskGroup: a task that waits notices the cancellation", "[runtime]") {
  Loop loop;
  TaskGroup group("test");
  std::atomic<int> started{0};
  std::atomic<int> cancelled{0};
  group.spawn(loop.get_executor(), wait_for_ever(started, cancelled));
  while (started == 0) loop.run_one();
  CHECK_FALSE(group.wait_for(0s));
  CHECK(group.size() == 1);
  group.cancel();
  group.cancel();
  loop.run();
  CHECK(cancelled == 1);
  CHECK(group.wait_for(0s));
}

TEST_CASE("TaskGroup: a task that was cancelled before it started never runs, and what it held is let go",
          "[runtime]") {
  Loop loop;
  TaskGroup group("test");
  auto kept = std::make_shared<int>(1);
  std::promise<void> never;
  group.spawn(loop.get_executor(), hold(kept, never.get_future().share()));
  group.cancel();
  // The cancellation is posted behind the start, so put it before by hand: a second task sees the group closed.
  CHECK_FALSE(group.spawn(loop.get_executor(), hold(kept, std::shared_future<void>{})));
  CHECK(kept.use_count() == 2);
  never.set_value();
  loop.run();
  CHECK(kept.use_count() == 1);
  CHECK(group.wait_for(0s));
}

TEST_CASE("TaskGroup: a cancelled group takes nothing", "[runtime]") {
  Loop loop;
  TaskGroup group("test");
  group.cancel();
  std::atomic<int> done{0};
  CHECK_FALSE(group.spawn(loop.get_executor(), count(done)));
  loop.run();
  CHECK(done == 0);
  CHECK(group.wait_for(0s));
}

TEST_CASE("TaskGroup: a task that throws ends alone", "[runtime]") {
  log::configure({log::Level::off, log::Format::text});
  Loop loop;
  TaskGroup group("test");
  std::atomic<int> done{0};
  group.spawn(loop.get_executor(), fail());
  group.spawn(loop.get_executor(), count(done));
  loop.run();
  CHECK(done == 1);
  CHECK(group.wait_for(0s));
  log::configure({log::Level::warn, log::Format::text});
}

TEST_CASE("TaskGroup: spawning and cancelling from many threads loses nobody", "[runtime]") {
  LoopPool loops(2);
  loops.start();
  for (int round = 0; round < 20; ++round) {
    TaskGroup group("test");
    std::atomic<int> started{0};
    std::atomic<int> cancelled{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 25; ++i) group.spawn(loops.at(t % 2).get_executor(), wait_for_ever(started, cancelled));
        if (t == 3) group.cancel();
      });
    }
    for (std::thread& thread : threads) thread.join();
    group.cancel();
    CHECK(group.wait_for(kPatience));
    CHECK(cancelled == started);
  }
  loops.stop();
}

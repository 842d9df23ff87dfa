#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "runtime/single_flight.hpp"
#include "streamcache/cursor.hpp"
#include "support/code_of.hpp"
#include "support/loop_runner.hpp"

using namespace sluice;
using namespace std::chrono_literals;

namespace {

using Flights = runtime::SingleFlight<std::string, int>;

// Work that waits until it is let go.
struct Held {
  Held() { gate.attach(); }
  streamcache::Cursor gate;
  std::atomic<int> runs{0};
};

runtime::Task<Result<int>> held_work(Held& held, Result<int> result) {
  ++held.runs;
  const Result<std::uint64_t> passed = co_await held.gate.wait_past(0);
  if (!passed) co_return passed.error();
  co_return result;
}

runtime::Task<Result<int>> throwing_work() {
  co_await boost::asio::post(co_await boost::asio::this_coro::executor, runtime::kAwait);
  throw std::runtime_error("a bug");
}

runtime::Task<Result<int>> plain_work(int value) { co_return value; }

bool until(const std::function<bool()>& done) {
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (!done()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::yield();
  }
  return true;
}

struct Loops {
  ~Loops() {
    group.cancel();
    group.wait_for(20s);
    loops.stop();
  }
  test::LoopRunner loops{2};
  runtime::TaskGroup group{"flights"};
  Flights flights{group};
  Held held;

  std::future<Flights::Outcome> ask(const std::string& key, Flights::Work work, std::size_t loop) {
    return loops.start(flights.run(key, std::move(work)), loop);
  }
  Flights::Work wait_then(Result<int> result) {
    return [this, result] { return held_work(held, result); };
  }
};

}  // namespace

TEST_CASE("SingleFlight: one run for all callers on all loops", "[proxy]") {
  Loops loops;
  std::vector<std::future<Flights::Outcome>> callers;
  for (std::size_t i = 0; i < 100; ++i) callers.push_back(loops.ask("key", loops.wait_then(7), i % 2));
  REQUIRE(until([&] { return loops.held.gate.waiting() == 1; }));
  loops.held.gate.advance(1);
  std::size_t joined = 0;
  for (auto& caller : callers) {
    const Flights::Outcome outcome = caller.get();
    CHECK(outcome.result.value() == 7);
    joined += outcome.joined ? 1 : 0;
  }
  // Who came after the end would have run it anew.
  CHECK(static_cast<std::size_t>(loops.held.runs) == 100 - joined);
  CHECK(loops.held.runs >= 1);
  // Nothing is kept.
  CHECK(loops.ask("key", [] { return plain_work(8); }, 0).get().result.value() == 8);
}

TEST_CASE("SingleFlight: keys are apart, errors are shared", "[proxy]") {
  Loops loops;
  auto first = loops.ask("a", loops.wait_then(Error{Errc::denied, "no"}), 0);
  REQUIRE(until([&] { return loops.held.gate.waiting() == 1; }));
  auto second = loops.ask("a", [] { return plain_work(1); }, 1);
  CHECK(loops.ask("b", [] { return plain_work(2); }, 1).get().result.value() == 2);
  loops.held.gate.advance(1);
  CHECK(test::code_of(first.get().result) == "denied");
  const Flights::Outcome outcome = second.get();
  if (outcome.joined) {
    CHECK(outcome.result.error().message == "no");
  } else {
    CHECK(outcome.result.value() == 1);
  }
}

TEST_CASE("SingleFlight: an exception becomes an internal error for all", "[proxy]") {
  Loops loops;
  CHECK(test::code_of(loops.ask("key", [] { return throwing_work(); }, 0).get().result) == "internal");
  CHECK(loops.ask("key", [] { return plain_work(1); }, 0).get().result.value() == 1);
  // Also one of the function itself.
  const Flights::Work broken = []() -> runtime::Task<Result<int>> { throw std::logic_error("a bug"); };
  CHECK(test::code_of(loops.ask("key", broken, 1).get().result) == "internal");
  CHECK(loops.ask("key", [] { return plain_work(1); }, 0).get().result.value() == 1);
}

TEST_CASE("SingleFlight: cancelling the group lets all waiters go", "[proxy]") {
  Loops loops;
  std::vector<std::future<Flights::Outcome>> callers;
  for (std::size_t i = 0; i < 10; ++i) callers.push_back(loops.ask("key", loops.wait_then(7), i % 2));
  REQUIRE(until([&] { return loops.held.gate.waiting() == 1; }));
  loops.group.cancel();
  for (auto& caller : callers) CHECK(test::code_of(caller.get().result) == "cancelled");
  CHECK(loops.group.wait_for(20s));
  // A task that is dropped before it started lets its caller go as well.
  CHECK(test::code_of(loops.ask("key", loops.wait_then(7), 0).get().result) == "cancelled");
  CHECK(loops.held.runs == 1);
}

TEST_CASE("SingleFlight: the first caller's leaving stops nobody", "[proxy]") {
  Loops loops;
  runtime::TaskGroup leaving("leaving");
  auto first = loops.loops.start_in(leaving, loops.flights.run("key", loops.wait_then(7)), 0);
  REQUIRE(until([&] { return loops.held.gate.waiting() == 1; }));
  auto second = loops.ask("key", loops.wait_then(8), 1);
  leaving.cancel();
  CHECK(test::code_of(first.get().result) == "cancelled");
  CHECK(leaving.wait_for(20s));
  CHECK(loops.held.gate.waiting() == 1);
  // Once more for the first key, so that the second caller is known to have joined before the end.
  CHECK(loops.ask("other", [] { return plain_work(1); }, 1).get().result.value() == 1);
  loops.held.gate.advance(1);
  CHECK(second.get().result.value() == 7);
  CHECK(loops.held.runs == 1);
}

TEST_CASE("SingleFlight: callers that are cancelled while the work ends", "[proxy]") {
  for (int round = 0; round < 50; ++round) {
    Loops loops;
    runtime::TaskGroup leaving("leaving");
    std::vector<std::future<Flights::Outcome>> callers;
    for (std::size_t i = 0; i < 8; ++i) {
      callers.push_back(loops.loops.start_in(leaving, loops.flights.run("key", loops.wait_then(7)), i % 2));
    }
    const bool waiting = until([&] { return loops.held.gate.waiting() == 1; });
    leaving.cancel();
    loops.held.gate.advance(1);
    REQUIRE(waiting);
    for (auto& caller : callers) {
      try {
        const Flights::Outcome outcome = caller.get();
        CHECK((outcome.result.has_value() || outcome.result.error().code == Errc::cancelled));
      } catch (const boost::system::system_error&) {
        // Cancelled before it waited.
      } catch (const std::future_error&) {
        // Dropped before it started.
      }
    }
    CHECK(leaving.wait_for(20s));
  }
}

#include <chrono>
#include <future>
#include <stdexcept>

#include <catch2/catch.hpp>

#include <boost/asio/this_coro.hpp>

#include "app/run_on.hpp"
#include "runtime/loop.hpp"
#include "support/loop_runner.hpp"

using namespace sluice;
using namespace sluice::app;
using namespace std::chrono_literals;

namespace {

runtime::Task<Result<std::size_t>> which_loop() {
  const runtime::Executor executor = co_await boost::asio::this_coro::executor;
  co_return runtime::Loop::of(executor).index();
}

runtime::Task<Result<std::size_t>> failing() {
  throw std::runtime_error("went wrong");
  co_return 0;
}

// Where it ran, and that the caller is back on its own loop.
runtime::Task<Result<std::size_t>> ask(runtime::Executor where, runtime::TaskGroup& group, bool& same) {
  const Result<std::size_t> before = co_await which_loop();
  Result<std::size_t> there = co_await run_on(where, group, which_loop());
  const Result<std::size_t> after = co_await which_loop();
  same = before && after && *before == *after;
  co_return there;
}

}  // namespace

TEST_CASE("run_on: the task runs there, and the caller goes on here", "[app]") {
  test::LoopRunner loops(3);
  runtime::TaskGroup group("test");
  bool same = false;
  const Result<std::size_t> where = loops.run(ask(loops.pool().at(2).get_executor(), group, same), 0);
  REQUIRE(where.has_value());
  CHECK(*where == 2);
  CHECK(same);
  CHECK(group.wait_for(20s));
}

TEST_CASE("run_on: an exception there is an error here", "[app]") {
  test::LoopRunner loops(2);
  runtime::TaskGroup group("test");
  const Result<std::size_t> failed = loops.run(run_on(loops.pool().at(1).get_executor(), group, failing()), 0);
  REQUIRE(failed.has_error());
  CHECK(failed.error().code == Errc::internal);
  CHECK(failed.error().message == "went wrong");
  CHECK(group.wait_for(20s));
}

TEST_CASE("run_on: a group that was cancelled runs nothing, and the caller is told", "[app]") {
  test::LoopRunner loops(2);
  runtime::TaskGroup group("test");
  group.cancel();
  const Result<std::size_t> dropped = loops.run(run_on(loops.pool().at(1).get_executor(), group, which_loop()), 0);
  REQUIRE(dropped.has_error());
  CHECK(dropped.error().code == Errc::cancelled);
}

#include <future>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/loop.hpp"

using namespace sluice::runtime;

namespace {

Task<void> find_loop(Loop*& found) { found = &Loop::of(co_await asio::this_coro::executor); }

}  // namespace

TEST_CASE("Loop: a task finds the loop that it runs on", "[runtime]") {
  Loop loop;
  Loop* found = nullptr;
  asio::co_spawn(loop.get_executor(), find_loop(found), [](std::exception_ptr) {});
  loop.run();
  CHECK(found == &loop);
}

TEST_CASE("LoopPool: each loop has an index and a thread of its own", "[runtime]") {
  LoopPool pool(3);
  pool.start();
  std::set<std::thread::id> threads;
  bool all_inside = true;
  for (std::size_t i = 0; i < pool.size(); ++i) {
    CHECK(pool.at(i).index() == i);
    std::promise<std::pair<std::thread::id, bool>> answer;
    asio::post(pool.at(i).get_executor(),
               [&, i] { answer.set_value({std::this_thread::get_id(), pool.at(i).running_in_this_thread()}); });
    const auto [id, inside] = answer.get_future().get();
    threads.insert(id);
    all_inside = all_inside && inside;
    CHECK_FALSE(pool.at(i).running_in_this_thread());
  }
  CHECK(threads.size() == 3);
  CHECK(all_inside);
  pool.stop();
  pool.stop();
}

TEST_CASE("LoopPool: it runs idle until it is stopped, and its end stops it", "[runtime]") {
  std::promise<void> ran;
  {
    LoopPool pool(1);
    pool.start();
    asio::post(pool.at(0).get_executor(), [&ran] { ran.set_value(); });
    ran.get_future().wait();
  }
  SUCCEED("the threads were joined");
}

TEST_CASE("LoopPool: never started, it still ends", "[runtime]") {
  const LoopPool pool(2);
  CHECK(pool.size() == 2);
}

TEST_CASE("LoopPool: zero means one loop for each usable processor", "[runtime]") {
  const LoopPool pool(0);
  CHECK(pool.size() == usable_processors());
  CHECK(usable_processors() >= 1);
}

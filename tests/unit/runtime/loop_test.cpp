#include <atomic>
#include <functional>
#include <future>
#include <set>
#include <thread>

#include <catch2/catch.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/loop.hpp"
#include "runtime/pause.hpp"

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

TEST_CASE("LoopPool: while it is paused no loop runs anything", "[runtime]") {
  LoopPool pool(3);
  pool.start();
  std::atomic<bool> changing{false};
  std::atomic<bool> ran_meanwhile{false};
  std::atomic<bool> stop{false};
  // Each loop looks again and again.
  std::function<void(std::size_t)> look = [&](std::size_t i) {
    if (changing) ran_meanwhile = true;
    if (!stop) asio::post(pool.at(i).get_executor(), [&look, i] { look(i); });
  };
  for (std::size_t i = 0; i < pool.size(); ++i) asio::post(pool.at(i).get_executor(), [&look, i] { look(i); });
  for (int round = 0; round < 20; ++round) {
    const auto paused = while_paused(pool, [&] {
      changing = true;
      std::this_thread::yield();
      changing = false;
    });
    CHECK(paused.has_value());
  }
  stop = true;
  pool.stop();
  CHECK_FALSE(ran_meanwhile);
}

TEST_CASE("LoopPool: a loop that does not come to rest leaves everything as it was", "[runtime]") {
  LoopPool pool(2);
  pool.start();
  std::promise<void> go_on;
  asio::post(pool.at(1).get_executor(), [&go_on] { go_on.get_future().wait(); });
  bool changed = false;
  const auto paused = while_paused(pool, [&] { changed = true; }, std::chrono::milliseconds{10});
  CHECK(paused.error().code == sluice::Errc::timeout);
  CHECK_FALSE(changed);
  go_on.set_value();
  CHECK(while_paused(pool, [&] { changed = true; }).has_value());
  CHECK(changed);
}

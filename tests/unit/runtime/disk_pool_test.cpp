#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include <boost/asio/co_spawn.hpp>

#include "runtime/disk_pool.hpp"
#include "runtime/loop.hpp"

using namespace sluice::runtime;

namespace {

struct Seen {
  std::thread::id worker;
  std::thread::id resumed;
  std::string value;
  bool void_done = false;
};

Task<void> use_pool(DiskPool& pool, Seen& seen) {
  seen.value = co_await offload(pool, [&seen] {
    seen.worker = std::this_thread::get_id();
    return std::string("from the pool");
  });
  co_await offload(pool, [&seen] { seen.void_done = true; });
  seen.resumed = std::this_thread::get_id();
}

}  // namespace

TEST_CASE("offload: work runs on the pool, and its caller goes on where it was", "[runtime]") {
  DiskPool pool(1);
  Loop loop;
  Seen seen;
  boost::asio::co_spawn(loop.get_executor(), use_pool(pool, seen), [](std::exception_ptr) {});
  loop.run();
  CHECK(seen.value == "from the pool");
  CHECK(seen.void_done);
  CHECK(seen.worker != std::this_thread::get_id());
  CHECK(seen.resumed == std::this_thread::get_id());
}

TEST_CASE("DiskPool: stop finishes what was posted, and may be called twice", "[runtime]") {
  std::atomic<int> done{0};
  DiskPool pool(3);
  for (int i = 0; i < 200; ++i) pool.post(Lane::bulk, [&done] { ++done; });
  pool.stop();
  CHECK(done == 200);
  pool.stop();
}

TEST_CASE("DiskPool: without threads it would do nothing, so it has one", "[runtime]") {
  std::atomic<bool> done{false};
  DiskPool pool(0);
  pool.post(Lane::bulk, [&done] { done = true; });
  pool.stop();
  CHECK(done);
}

TEST_CASE("offload: many callers on many loops each get their own result", "[runtime]") {
  DiskPool pool(3);
  std::atomic<int> right{0};
  std::atomic<int> left{64};
  std::promise<void> all;
  LoopPool loops(2);
  loops.start();
  struct Call {
    static Task<void> run(DiskPool& on, int n, std::atomic<int>& good, std::atomic<int>& open,
                          std::promise<void>& end) {
      const int got = co_await offload(on, [n] { return n * 3; });
      if (got == n * 3) ++good;
      if (--open == 0) end.set_value();
    }
  };
  for (int i = 0; i < 64; ++i) {
    boost::asio::co_spawn(loops.at(static_cast<std::size_t>(i) % 2).get_executor(),
                          Call::run(pool, i, right, left, all), [](std::exception_ptr) {});
  }
  all.get_future().wait();
  loops.stop();
  CHECK(right == 64);
}

TEST_CASE("DiskPool: work of the bulk lane does not hold up the fast one", "[runtime]") {
  DiskPool pool(2);
  std::promise<void> go_on;
  const std::shared_future<void> blocked = go_on.get_future().share();
  std::atomic<int> done{0};
  for (int i = 0; i < 8; ++i) {
    pool.post(Lane::bulk, [&done, blocked] {
      blocked.wait();
      ++done;
    });
  }
  std::promise<void> ran;
  pool.post(Lane::fast, [&ran] { ran.set_value(); });
  ran.get_future().wait();
  CHECK(done == 0);
  go_on.set_value();
  pool.stop();
  CHECK(done == 8);
}

namespace {

Task<void> catch_it(DiskPool& pool, std::string& what) {
  try {
    co_await offload(pool, []() -> int { throw std::runtime_error("no memory"); });
  } catch (const std::runtime_error& error) {
    what = error.what();
  }
}

}  // namespace

TEST_CASE("offload: what the work throws reaches who awaits it", "[runtime]") {
  DiskPool pool(1);
  Loop loop;
  std::string what;
  boost::asio::co_spawn(loop.get_executor(), catch_it(pool, what), [](std::exception_ptr) {});
  loop.run();
  CHECK(what == "no memory");
  // Work that nobody awaits must not end the process.
  pool.post(Lane::fast, [] { throw std::runtime_error("lost"); });
  pool.stop();
}

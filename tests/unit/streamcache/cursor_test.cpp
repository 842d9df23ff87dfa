#include "streamcache/cursor.hpp"

#include <limits>
#include <thread>

#include "fixture.hpp"

namespace sluice::streamcache {
namespace {

Task<void> follow(Cursor& cursor, std::uint64_t until, std::atomic<std::uint64_t>& sum) {
  std::uint64_t at = 0;
  while (at < until) {
    const Result<std::uint64_t> now = co_await cursor.wait_past(at);
    if (!now || *now <= at) co_return;
    at = *now;
  }
  sum += at;
}

Task<void> wait_for_ever(Cursor& cursor, std::atomic<int>& cancelled) {
  const Result<std::uint64_t> now = co_await cursor.wait_past(std::numeric_limits<std::uint64_t>::max());
  if (!now && now.error().code == Errc::cancelled) ++cancelled;
}

}  // namespace

TEST_CASE("Cursor: only growth wakes", "[streamcache]") {
  Fixture t;
  Cursor cursor;
  cursor.attach();
  CHECK(cursor.advance(5));
  const auto wait = t.start(cursor.wait_past(5));
  t.settle();
  CHECK_FALSE(cursor.advance(5));
  CHECK_FALSE(cursor.advance(4));
  t.settle();
  CHECK_FALSE(wait->done);
  CHECK(cursor.position() == 5);
  CHECK(cursor.advance(6));
  t.settle();
  REQUIRE(wait->result);
  CHECK(wait->result->value() == 6);
}

TEST_CASE("Cursor: who waits for more is left alone", "[streamcache]") {
  Fixture t;
  Cursor cursor;
  cursor.attach();
  const auto near = t.start(cursor.wait_past(0));
  const auto far = t.start(cursor.wait_past(100));
  const auto middle = t.start(cursor.wait_past(10));
  t.settle();
  CHECK(cursor.waiting() == 3);
  cursor.advance(11);
  t.settle();
  CHECK(near->done);
  CHECK(middle->done);
  CHECK_FALSE(far->done);
  CHECK(cursor.waiting() == 1);
  cursor.advance(101);
  t.settle();
  CHECK(far->done);
}

TEST_CASE("Cursor: a wait ends when nobody is left to move it", "[streamcache]") {
  Fixture t;
  Cursor cursor;
  CHECK(cursor.idle());
  CHECK(t.run(cursor.wait_past(0)).value() == 0);
  cursor.attach();
  cursor.attach();
  CHECK_FALSE(cursor.idle());
  const auto wait = t.start(cursor.wait_past(std::numeric_limits<std::uint64_t>::max()));
  t.settle();
  cursor.detach();
  t.settle();
  CHECK_FALSE(wait->done);
  cursor.detach();
  t.settle();
  REQUIRE(wait->result);
  CHECK(wait->result->value() == 0);
  CHECK(cursor.idle());
  // Somebody new takes it up again where it was.
  cursor.attach();
  const auto again = t.start(cursor.wait_past(0));
  t.settle();
  CHECK_FALSE(again->done);
  cursor.advance(1);
  t.settle();
  CHECK(again->done);
}

TEST_CASE("Cursor: a wait can be cancelled, alone", "[streamcache]") {
  Fixture t;
  Cursor cursor;
  cursor.attach();
  const auto first = t.start(cursor.wait_past(0));
  const auto second = t.start(cursor.wait_past(0));
  const auto third = t.start(cursor.wait_past(0));
  t.settle();
  second->cancel();
  CHECK_FALSE(second->done);  // not from within the emission
  t.settle();
  REQUIRE(second->result);
  CHECK(second->result->error().code == Errc::cancelled);
  CHECK_FALSE(first->done);
  CHECK(cursor.waiting() == 2);
  // Woken and then cancelled, before its turn: it has the position.
  cursor.advance(7);
  third->cancel();
  t.settle();
  REQUIRE(third->result);
  CHECK(third->result->value() == 7);
  CHECK(first->done);
}

TEST_CASE("Cursor: a cancelled waiter leaves the list before it is destroyed", "[streamcache]") {
  Fixture t;
  Cursor cursor;
  cursor.attach();
  for (int i = 0; i < 50; ++i) {
    const auto wait = t.start(cursor.wait_past(1000));
    t.settle();
    wait->cancel();
    t.settle();
    CHECK(wait->done);
  }
  CHECK(cursor.waiting() == 0);
}

TEST_CASE("Cursor: it may be destroyed by the one it woke", "[streamcache]") {
  Fixture t;
  struct Last {
    static Task<int> wait(std::shared_ptr<Cursor> cursor) {
      (void)co_await cursor->wait_past(0);
      cursor.reset();
      co_return 1;
    }
  };
  auto cursor = std::make_shared<Cursor>();
  cursor->attach();
  const auto wait = t.start(Last::wait(cursor));
  t.settle();
  std::weak_ptr<Cursor> watch = cursor;
  cursor->advance(1);
  cursor.reset();
  t.settle();
  CHECK(wait->done);
  CHECK(watch.expired());
}

TEST_CASE("Cursor: a thousand followers on several loops miss nothing", "[streamcache]") {
  constexpr std::uint64_t kEnd = 2000;
  constexpr std::size_t kFollowers = 1000;
  runtime::LoopPool loops(4);
  runtime::TaskGroup group("followers");
  Cursor cursor;
  cursor.attach();
  std::atomic<std::uint64_t> sum{0};
  loops.start();
  for (std::size_t i = 0; i < kFollowers; ++i) {
    group.spawn(loops.at(i % loops.size()).get_executor(), follow(cursor, kEnd, sum));
  }
  for (std::uint64_t i = 1; i <= kEnd; ++i) {
    // Now and then once most of them really wait.
    while (i % 100 == 0 && cursor.waiting() < kFollowers / 2) std::this_thread::yield();
    cursor.advance(i);
  }
  CHECK(group.wait_for(std::chrono::seconds{100}));
  CHECK(sum == kFollowers * kEnd);
}

TEST_CASE("Cursor: moves race with cancellations", "[streamcache]") {
  runtime::LoopPool loops(3);
  loops.start();
  for (int round = 0; round < 50; ++round) {
    runtime::TaskGroup group("waiters");
    Cursor cursor;
    cursor.attach();
    std::atomic<int> cancelled{0};
    std::atomic<std::uint64_t> sum{0};
    for (std::size_t i = 0; i < 60; ++i) {
      auto task = i % 2 == 0 ? wait_for_ever(cursor, cancelled) : follow(cursor, 1000000, sum);
      group.spawn(loops.at(i % loops.size()).get_executor(), std::move(task));
    }
    for (std::uint64_t i = 1; i < 100; ++i) {
      cursor.advance(i);
      if (i == 50) group.cancel();
    }
    REQUIRE(group.wait_for(std::chrono::seconds{100}));
    CHECK(cancelled <= 30);
    CHECK(sum == 0);
  }
}

}  // namespace sluice::streamcache

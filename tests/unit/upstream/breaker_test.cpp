#include "upstream/breaker.hpp"

#include <catch2/catch.hpp>

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;
using Failure = Breaker::Failure;

struct Fixture {
  ManualClock clock;
  Breaker breaker{{.threshold = 3, .silent_limit = 2, .first_pause = 1s, .longest_pause = 5s}, clock};

  bool fail(Breaker::Thing thing, Failure failure = Failure::answer) { return breaker.enter(thing)->failed(failure); }
  bool succeed(Breaker::Thing thing) { return breaker.enter(thing)->succeeded(); }
  void open() {
    Breaker::Thing thing = 100;
    while (!fail(thing++, Failure::no_connection)) {
    }
  }
};

}  // namespace

TEST_CASE("Breaker: opens after the failures of several things in a row, when a check fails too", "[upstream]") {
  Fixture f;
  CHECK_FALSE(f.fail(1));
  CHECK_FALSE(f.fail(2));
  CHECK_FALSE(f.succeed(9));
  CHECK_FALSE(f.fail(1));
  CHECK_FALSE(f.fail(2));
  CHECK_FALSE(f.breaker.begin_check());
  CHECK_FALSE(f.fail(3));
  auto check = f.breaker.begin_check();
  REQUIRE(check);
  // One at a time; meanwhile requests go through, and are no reason for another.
  CHECK_FALSE(f.breaker.begin_check());
  CHECK_FALSE(f.fail(5));
  CHECK(f.breaker.enter(4));
  CHECK(check->fails());
  CHECK_FALSE(f.breaker.enter(4));
  CHECK(f.breaker.pause_left(4) == 1s);
  CHECK_FALSE(f.breaker.begin_check());
}

TEST_CASE("Breaker: whoever asks only for what fails does not open it", "[upstream][doors]") {
  Fixture f;
  for (Breaker::Thing thing = 1; thing < 1000; ++thing) {
    CHECK_FALSE(f.fail(thing));
    if (auto check = f.breaker.begin_check()) check->answers();
    CHECK(f.breaker.enter(0));
    f.clock.advance(10ms);
  }
}

TEST_CASE("Breaker: a check that found nothing wrong counts for the first pause, and from the start", "[upstream]") {
  Fixture f;
  for (const Breaker::Thing thing : {1, 2, 3}) CHECK_FALSE(f.fail(thing));
  f.breaker.begin_check()->answers();
  for (const Breaker::Thing thing : {4, 5, 6}) CHECK_FALSE(f.fail(thing));
  CHECK_FALSE(f.breaker.begin_check());
  f.clock.advance(1s);
  CHECK(f.breaker.begin_check()->fails());
  CHECK_FALSE(f.breaker.enter(7));
}

TEST_CASE("Breaker: a check that is dropped is left to the next, and a success ends the doubt", "[upstream]") {
  Fixture f;
  for (const Breaker::Thing thing : {1, 2, 3}) CHECK_FALSE(f.fail(thing));
  CHECK(f.breaker.begin_check());  // and gone
  auto check = f.breaker.begin_check();
  REQUIRE(check);
  f.succeed(4);
  CHECK_FALSE(check->fails());
  CHECK(f.breaker.enter(5));
}

TEST_CASE("Breaker: one thing counts once, however often it fails", "[upstream]") {
  Fixture f;
  for (int i = 0; i < 20; ++i) CHECK_FALSE(f.fail(1));
  for (int i = 0; i < 20; ++i) f.breaker.note_failure(1);
  CHECK_FALSE(f.fail(2));
  CHECK_FALSE(f.breaker.begin_check());
  CHECK_FALSE(f.fail(3));
  CHECK(f.breaker.begin_check());
}

TEST_CASE("Breaker: connections that cannot be made are about no thing", "[upstream]") {
  Fixture f;
  CHECK_FALSE(f.fail(1, Failure::no_connection));
  CHECK_FALSE(f.fail(1, Failure::no_connection));
  CHECK(f.fail(1, Failure::no_connection));
  Fixture g;
  CHECK(g.fail(1, Failure::connect_timeout));
  CHECK_FALSE(g.breaker.enter(2));
  // A few, beside bad answers, are a doubt.
  Fixture h;
  CHECK_FALSE(h.fail(1, Failure::no_connection));
  CHECK_FALSE(h.fail(2));
  CHECK_FALSE(h.fail(3));
  CHECK(h.breaker.begin_check());
}

TEST_CASE("Breaker: one silent thing is no outage, two are", "[upstream]") {
  Fixture f;
  for (int i = 0; i < 20; ++i) CHECK_FALSE(f.fail(1, Failure::silence));
  CHECK(f.breaker.enter(2));
  CHECK(f.fail(2, Failure::silence));
  CHECK_FALSE(f.breaker.enter(1));
  CHECK_FALSE(f.breaker.enter(2));
}

TEST_CASE("Breaker: silence beside successes counts as any failure", "[upstream]") {
  Fixture f;
  auto slow = f.breaker.enter(1);
  auto slow_too = f.breaker.enter(2);
  f.clock.advance(1s);
  CHECK_FALSE(f.succeed(3));
  f.clock.advance(30s);
  CHECK_FALSE(slow->failed(Failure::silence));
  CHECK_FALSE(slow_too->failed(Failure::silence));
  CHECK(f.breaker.enter(4));
}

TEST_CASE("Breaker: who was never silent need not wait for the end of the pause", "[upstream]") {
  Fixture f;
  auto late = f.breaker.enter(3);
  f.fail(1, Failure::silence);
  CHECK(f.fail(2, Failure::silence));
  // One that had been asked for before does not shut the others out.
  CHECK_FALSE(late->failed(Failure::silence));
  CHECK_FALSE(f.breaker.enter(3));
  auto healthy = f.breaker.enter(4);
  REQUIRE(healthy);
  CHECK(healthy->probe() == 0U);
  auto hanging = f.breaker.enter(5);
  REQUIRE(hanging);
  SECTION("and finds that it is none") {
    CHECK(healthy->succeeded());
    CHECK(f.breaker.enter(1));
    CHECK(f.breaker.enter(6));
  }
  SECTION("until one of them is silent too") {
    CHECK_FALSE(hanging->failed(Failure::silence));
    CHECK_FALSE(f.breaker.enter(6));
    f.clock.advance(1s);
    CHECK(f.breaker.enter(6)->probe() == 0U);
  }
}

TEST_CASE("Breaker: a thing that rests lets all others through", "[upstream]") {
  Fixture f;
  f.breaker.rest(1);
  CHECK_FALSE(f.breaker.enter(1));
  CHECK(f.breaker.enter(1, true));
  CHECK(f.breaker.pause_left(1) == 1s);
  CHECK(f.breaker.pause_left(2) == 0s);
  CHECK(f.breaker.enter(2));
  f.clock.advance(1s);
  CHECK(f.breaker.enter(1)->probe() == 0U);
  f.breaker.rest(1);
  CHECK(f.breaker.pause_left(1) == 2s);
  f.clock.advance(2s);
  CHECK_FALSE(f.breaker.enter(1)->succeeded());
  const auto next = f.breaker.enter(1);
  REQUIRE(next);
  CHECK_FALSE(next->probe());
}

TEST_CASE("Breaker: a watched request goes through, and closes it when it succeeds", "[upstream]") {
  Fixture f;
  f.open();
  auto watched = f.breaker.watch(1);
  CHECK_FALSE(f.breaker.enter(1));
  CHECK(watched.succeeded());
  CHECK(f.breaker.enter(1));
}

TEST_CASE("Breaker: one probe after the pause, and the way back", "[upstream]") {
  Fixture f;
  f.open();
  f.clock.advance(999ms);
  CHECK_FALSE(f.breaker.enter(1));
  f.clock.advance(1ms);
  auto probe = f.breaker.enter(1);
  REQUIRE(probe);
  CHECK(probe->probe() == 0U);
  CHECK_FALSE(f.breaker.enter(2));
  CHECK(f.breaker.pause_left(2) == 1s);
  CHECK(probe->succeeded());
  const auto next = f.breaker.enter(2);
  REQUIRE(next);
  CHECK_FALSE(next->probe());
}

TEST_CASE("Breaker: the pause grows with each probe that fails, up to a limit", "[upstream]") {
  Fixture f;
  f.open();
  std::size_t failed = 0;
  for (const auto pause : {1s, 2s, 4s, 5s, 5s}) {
    CHECK(f.breaker.pause_left(1) == pause);
    f.clock.advance(pause);
    auto probe = f.breaker.enter(1);
    REQUIRE(probe);
    CHECK(probe->probe() == failed++);
    CHECK_FALSE(probe->failed(Failure::silence));
  }
  f.clock.advance(5s);
  CHECK(f.succeed(1));
  f.open();
  CHECK(f.breaker.pause_left(1) == 1s);
}

TEST_CASE("Breaker: a probe that is dropped lets another one in", "[upstream]") {
  Fixture f;
  f.open();
  f.clock.advance(1s);
  CHECK(f.breaker.enter(1).has_value());  // and gone
  CHECK(f.breaker.enter(1).has_value());
}

TEST_CASE("Breaker: a late success closes it, a late failure does not open it again", "[upstream]") {
  Fixture f;
  auto early = f.breaker.enter(1);
  auto other = f.breaker.enter(2);
  f.open();
  CHECK(early->succeeded());
  CHECK(f.breaker.enter(1));
  CHECK_FALSE(other->failed(Failure::answer));
  CHECK(f.breaker.enter(1));
}

TEST_CASE("Breaker: bodies that break count too", "[upstream]") {
  Fixture f;
  for (const Breaker::Thing thing : {1, 2}) f.breaker.note_failure(thing);
  CHECK_FALSE(f.breaker.begin_check());
  f.breaker.note_failure(3);
  CHECK(f.breaker.begin_check()->fails());
  CHECK_FALSE(f.breaker.enter(1));
}

TEST_CASE("Breaker: an endpoint that answers otherwise than its probe is asked again", "[upstream][doors]") {
  Fixture f;
  f.open();
  CHECK_FALSE(f.breaker.enter(1));
  f.clock.advance(1s);
  auto probe = f.breaker.enter(1);
  REQUIRE(probe);
  CHECK(probe->is_alone());
  CHECK_FALSE(f.breaker.absolve());
  probe->failed(Failure::answer);
  CHECK_FALSE(f.breaker.enter(2));
  CHECK(f.breaker.absolve());
  CHECK_FALSE(f.breaker.absolve());
  CHECK(f.breaker.enter(2));
  // Nothing has succeeded since: the next pause is the longer one.
  f.open();
  CHECK(f.breaker.pause_left(9) == 2s);
  f.clock.advance(2s);
  CHECK(f.succeed(9));
  f.open();
  CHECK(f.breaker.pause_left(9) == 1s);
}

}  // namespace sluice::upstream

#include "upstream/breaker.hpp"

#include <catch2/catch.hpp>

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;
using Failure = Breaker::Failure;

struct Fixture {
  ManualClock clock;
  Breaker breaker{{.threshold = 3, .first_pause = 1s, .longest_pause = 5s}, clock};

  bool fail(Failure failure = Failure::quick) { return breaker.enter()->failed(failure); }
  void open() {
    while (!fail()) {
    }
  }
};

}  // namespace

TEST_CASE("Breaker: opens after several failures in a row", "[upstream]") {
  Fixture f;
  CHECK_FALSE(f.fail());
  CHECK_FALSE(f.fail());
  CHECK_FALSE(f.breaker.enter()->succeeded());
  CHECK_FALSE(f.fail());
  CHECK_FALSE(f.fail());
  CHECK(f.breaker.pause_left() == 0s);
  CHECK(f.fail());
  CHECK_FALSE(f.breaker.enter());
  CHECK(f.breaker.pause_left() == 1s);
}

TEST_CASE("Breaker: one timeout is enough", "[upstream]") {
  Fixture f;
  CHECK(f.fail(Failure::timeout));
  CHECK_FALSE(f.breaker.enter());
}

TEST_CASE("Breaker: a timeout beside successes counts as any failure", "[upstream]") {
  Fixture f;
  auto slow = f.breaker.enter();
  f.clock.advance(1s);
  CHECK_FALSE(f.breaker.enter()->succeeded());
  f.clock.advance(30s);
  CHECK_FALSE(slow->failed(Failure::timeout));
  CHECK(f.breaker.enter());
}

TEST_CASE("Breaker: one probe after the pause, and the way back", "[upstream]") {
  Fixture f;
  f.open();
  f.clock.advance(999ms);
  CHECK_FALSE(f.breaker.enter());
  f.clock.advance(1ms);
  auto probe = f.breaker.enter();
  REQUIRE(probe);
  CHECK(probe->probe() == 0U);
  CHECK_FALSE(f.breaker.enter());
  CHECK(f.breaker.pause_left() == 1s);
  CHECK(probe->succeeded());
  const auto next = f.breaker.enter();
  REQUIRE(next);
  CHECK_FALSE(next->probe());
}

TEST_CASE("Breaker: the pause grows with each probe that fails, up to a limit", "[upstream]") {
  Fixture f;
  f.open();
  std::size_t failed = 0;
  for (const auto pause : {1s, 2s, 4s, 5s, 5s}) {
    CHECK(f.breaker.pause_left() == pause);
    f.clock.advance(pause);
    auto probe = f.breaker.enter();
    REQUIRE(probe);
    CHECK(probe->probe() == failed++);
    CHECK_FALSE(probe->failed(Failure::timeout));
  }
  f.clock.advance(5s);
  CHECK(f.breaker.enter()->succeeded());
  f.open();
  CHECK(f.breaker.pause_left() == 1s);
}

TEST_CASE("Breaker: a probe that is dropped lets another one in", "[upstream]") {
  Fixture f;
  f.open();
  f.clock.advance(1s);
  CHECK(f.breaker.enter().has_value());  // and gone
  CHECK(f.breaker.enter().has_value());
}

TEST_CASE("Breaker: a late success closes it, a late failure does not open it again", "[upstream]") {
  Fixture f;
  auto early = f.breaker.enter();
  auto other = f.breaker.enter();
  f.open();
  CHECK(early->succeeded());
  CHECK(f.breaker.enter());
  CHECK_FALSE(other->failed(Failure::quick));
  CHECK(f.breaker.enter());
}

TEST_CASE("Breaker: bodies that break count too", "[upstream]") {
  Fixture f;
  CHECK_FALSE(f.breaker.note_failure());
  CHECK_FALSE(f.breaker.note_failure());
  CHECK(f.breaker.note_failure());
  CHECK_FALSE(f.breaker.note_failure());
  CHECK_FALSE(f.breaker.enter());
}

}  // namespace sluice::upstream

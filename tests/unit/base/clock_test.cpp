#include <catch2/catch.hpp>

#include "base/clock.hpp"

using namespace sluice;
using namespace std::chrono_literals;

TEST_CASE("ManualClock: it stands still until it is moved", "[base]") {
  ManualClock clock;
  const auto now = clock.now();
  const auto wall = clock.wall();
  CHECK(clock.now() == now);
  clock.advance(1500ms);
  CHECK(clock.now() - now == 1500ms);
  CHECK(clock.wall() - wall == 1500ms);
}

TEST_CASE("ManualClock: an age may be subtracted from its start", "[base]") {
  const ManualClock clock;
  CHECK(clock.now() - 24h * 30 > Clock::Monotonic{});
  CHECK(clock.wall() - 24h * 365 > Clock::Wall{});
}

TEST_CASE("SystemClock: it never goes back", "[base]") {
  const SystemClock clock;
  auto last = clock.now();
  bool ordered = true;
  for (int i = 0; i < 1000; ++i) {
    const auto next = clock.now();
    ordered = ordered && next >= last;
    last = next;
  }
  CHECK(ordered);
}

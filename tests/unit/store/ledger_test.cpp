#include <random>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "runtime/task_group.hpp"
#include "store/ledger.hpp"
#include "support/catch_result.hpp"
#include "support/run_task.hpp"

#include <catch2/catch.hpp>

using namespace sluice;
using namespace sluice::test;
using store::kBlockBytes;
using store::Ledger;
using store::Reservation;

namespace {

constexpr std::uint64_t kLimit = 1000 * kBlockBytes;

struct Fixture {
  metrics::Registry registry;
  metrics::Gauge& gauge = registry.gauge("reserved", "reserved");
  int calls = 0;
  Ledger ledger{[this] { ++calls; }, gauge};
  RunTask run;

  Errc grow(Reservation& room, std::uint64_t bytes) {
    const Result<void> done = run(ledger.grow(room, bytes));
    return done ? Errc{} : done.error().code;
  }
};

// Begins a grow() that may have to wait; `out` tells how it ended.
struct Waiting {
  Reservation room;
  bool done = false;
  bool granted = false;
};

runtime::Task<void> begin(Ledger& ledger, Waiting& out, std::uint64_t bytes) {
  const Result<void> result = co_await ledger.grow(out.room, bytes);
  out.granted = result.has_value();
  out.done = true;
}

}  // namespace

TEST_CASE("Ledger: whole blocks are reserved, and given back", "[store][limits]") {
  Fixture f;
  f.ledger.set_limit(kLimit);
  {
    Reservation room;
    CHECK(f.grow(room, 1) == Errc{});
    CHECK(room.bytes() == kBlockBytes);
    CHECK(f.grow(room, kBlockBytes + 1) == Errc{});
    CHECK(f.ledger.reserved() == 2 * kBlockBytes);
    CHECK(f.gauge.value() == static_cast<std::int64_t>(2 * kBlockBytes));
  }
  CHECK(f.ledger.reserved() == 0);
  CHECK(f.ledger.at_rest() == 0);
}

TEST_CASE("Ledger: what can never fit is refused at once", "[store][limits]") {
  Fixture f;
  f.ledger.set_limit(kLimit);
  Reservation room;
  CHECK(f.grow(room, kLimit + 1) == Errc::no_space);
  CHECK(room.bytes() == 0);
  Reservation other;
  REQUIRE(f.grow(other, kLimit - kBlockBytes) == Errc{});
  // Nobody waits for another fill.
  CHECK(f.grow(room, 2 * kBlockBytes) == Errc::no_space);
  CHECK(f.grow(room, kBlockBytes) == Errc{});
}

TEST_CASE("Ledger: a reservation waits for evictions, in the order of arrival", "[store][limits]") {
  Fixture f;
  f.ledger.set_limit(kLimit);
  f.ledger.found(kLimit);
  Waiting first;
  Waiting second;
  auto& loop = f.run.loop();
  runtime::TaskGroup group("test");
  group.spawn(loop.get_executor(), begin(f.ledger, first, 10 * kBlockBytes));
  group.spawn(loop.get_executor(), begin(f.ledger, second, kBlockBytes));
  loop.restart();
  loop.poll();
  CHECK(f.ledger.waiting() == 2);
  CHECK(f.ledger.wanted().bytes >= 11 * kBlockBytes);
  f.ledger.gone(9 * kBlockBytes);
  loop.poll();
  CHECK_FALSE(first.done);
  CHECK_FALSE(second.done);
  f.ledger.gone(kBlockBytes);
  loop.poll();
  CHECK(first.granted);
  CHECK_FALSE(second.done);
  SECTION("and fails when nothing is left") {
    f.ledger.give_up();
    loop.run();
    CHECK(second.done);
    CHECK_FALSE(second.granted);
  }
  SECTION("and goes on when more is gone") {
    f.ledger.gone(kBlockBytes);
    loop.run();
    CHECK(second.granted);
    CHECK(f.ledger.at_rest() + f.ledger.reserved() == kLimit);
  }
  SECTION("and ends with the ledger") {
    f.ledger.close();
    loop.run();
    CHECK(second.done);
    CHECK_FALSE(second.granted);
  }
}

TEST_CASE("Ledger: what is not yet written counts against the free space", "[store][limits]") {
  Fixture f;
  f.ledger.set_free(100 * kBlockBytes, 20 * kBlockBytes);
  Reservation room;
  CHECK(f.grow(room, 81 * kBlockBytes) == Errc::no_space);
  REQUIRE(f.grow(room, 50 * kBlockBytes) == Errc{});
  room.wrote(50 * kBlockBytes);
  f.ledger.set_free(50 * kBlockBytes, 20 * kBlockBytes);  // as the file system has it then
  Reservation other;
  CHECK(f.grow(other, 31 * kBlockBytes) == Errc::no_space);
  CHECK(f.grow(other, 30 * kBlockBytes) == Errc{});
  CHECK(f.ledger.wanted().bytes == 0);
  f.ledger.set_free(10 * kBlockBytes, 20 * kBlockBytes);  // somebody else has written
  CHECK(f.ledger.wanted().for_free_space);
  CHECK(f.ledger.wanted().bytes >= 40 * kBlockBytes);
}

TEST_CASE("Ledger: random use never crosses the limit, and the accounts come back to zero", "[store][limits]") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    Fixture f;
    std::mt19937 random(seed);
    f.ledger.set_limit(kLimit);
    std::vector<std::uint64_t> at_rest;
    std::vector<Reservation> rooms;
    bool below = true;
    const auto gone = [&](std::size_t at) {
      f.ledger.gone(at_rest[at]);
      at_rest.erase(at_rest.begin() + static_cast<std::ptrdiff_t>(at));
    };
    for (int step = 0; step < 2000; ++step) {
      switch (random() % 5) {
        case 0:
        case 1: {
          // As the maintenance would: room first, so that nobody has to wait here.
          const std::uint64_t size = random() % (200 * kBlockBytes);
          while (!at_rest.empty() && f.ledger.at_rest() + f.ledger.reserved() + store::on_disk(size) > kLimit)
            gone(random() % at_rest.size());
          Reservation room;
          const Errc code = f.grow(room, size);
          below = below && (code == Errc{} || code == Errc::no_space);
          if (code == Errc{}) rooms.push_back(std::move(room));
          break;
        }
        case 2: {
          if (rooms.empty()) break;
          const std::uint64_t size = rooms.back().bytes() - random() % (rooms.back().bytes() + 1);
          f.ledger.commit(std::move(rooms.back()), size);
          rooms.pop_back();
          at_rest.push_back(size);
          break;
        }
        case 3:
          if (!rooms.empty()) rooms.pop_back();
          break;
        default:
          if (!rooms.empty()) rooms.front().wrote(random() % (300 * kBlockBytes));
      }
      below = below && f.ledger.at_rest() + f.ledger.reserved() <= kLimit;
    }
    CHECK(below);
    rooms.clear();
    while (!at_rest.empty()) gone(0);
    CHECK(f.ledger.at_rest() == 0);
    CHECK(f.ledger.reserved() == 0);
  }
}

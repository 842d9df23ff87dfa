#include <chrono>
#include <memory>
#include <vector>

#include <catch2/catch.hpp>

#include "runtime/deadline.hpp"
#include "runtime/loop.hpp"

using namespace sluice::runtime;
using namespace std::chrono_literals;

namespace {

// The loop runs on the test's thread until nothing is armed any more. A tick of a millisecond only makes it short.
struct Bench {
  Loop loop{Loop::Params{0, 1ms}};
  void run() {
    loop.restart();
    loop.run();
  }
};

constexpr auto kSoon = 1ns;
constexpr auto kNeverReached = 1h;

}  // namespace

TEST_CASE("Deadline: it fires once for each arming", "[runtime]") {
  Bench bench;
  int fired = 0;
  Deadline deadline(bench.loop, [&fired] { ++fired; });
  deadline.arm(kSoon);
  CHECK_FALSE(deadline.expired());
  bench.run();
  CHECK(fired == 1);
  CHECK(deadline.expired());
  bench.run();
  CHECK(fired == 1);
  deadline.arm(kSoon);
  CHECK_FALSE(deadline.expired());
  bench.run();
  CHECK(fired == 2);
}

TEST_CASE("Deadline: disarmed, or armed with nothing, it does not fire", "[runtime]") {
  Bench bench;
  int fired = 0;
  Deadline first(bench.loop, [&fired] { ++fired; });
  Deadline second(bench.loop, [&fired] { ++fired; });
  first.arm(kSoon);
  first.disarm();
  second.arm(kSoon);
  second.arm(0ns);
  bench.run();
  CHECK(fired == 0);
  CHECK_FALSE(first.expired());
}

TEST_CASE("Deadline: arming again replaces what was armed", "[runtime]") {
  Bench bench;
  std::vector<int> order;
  Deadline late(bench.loop, [&order] { order.push_back(1); });
  Deadline end(bench.loop, [&] {
    order.push_back(2);
    late.disarm();
  });
  late.arm(kSoon);
  late.arm(kNeverReached);
  end.arm(kSoon);
  bench.run();
  CHECK(order == std::vector<int>{2});
}

TEST_CASE("Deadline: the longest duration there is does not overflow", "[runtime]") {
  Bench bench;
  bool fired = false;
  Deadline deadline(bench.loop, [&fired] { fired = true; });
  deadline.arm(Deadline::Duration::max());
  bench.run();
  CHECK_FALSE(fired);
}

TEST_CASE("Deadline: a shorter one fires before a longer one", "[runtime]") {
  Bench bench;
  std::vector<int> order;
  Deadline longer(bench.loop, [&order] { order.push_back(30); });
  Deadline shorter(bench.loop, [&order] { order.push_back(1); });
  longer.arm(30ms);
  shorter.arm(kSoon);
  bench.run();
  CHECK(order == std::vector<int>{1, 30});
}

TEST_CASE("Deadline: a callback may destroy its own deadline", "[runtime]") {
  Bench bench;
  bool fired = false;
  std::unique_ptr<Deadline> deadline;
  deadline = std::make_unique<Deadline>(bench.loop, [&] {
    fired = true;
    deadline.reset();
  });
  deadline->arm(kSoon);
  bench.run();
  CHECK(fired);
  CHECK_FALSE(deadline);
}

TEST_CASE("Deadline: a callback may destroy any other, in whichever order they stand", "[runtime]") {
  for (std::size_t destroyer = 0; destroyer < 4; ++destroyer) {
    Bench bench;
    int fired = 0;
    std::vector<std::unique_ptr<Deadline>> deadlines(4);
    for (std::size_t i = 0; i < deadlines.size(); ++i) {
      deadlines[i] = std::make_unique<Deadline>(bench.loop, [&, i] {
        ++fired;
        if (i != destroyer) return;
        for (auto& deadline : deadlines) deadline.reset();
      });
    }
    for (auto& deadline : deadlines) deadline->arm(kSoon);
    bench.run();
    INFO(destroyer);
    CHECK(fired >= 1);
    CHECK(fired <= 4);
    CHECK_FALSE(deadlines[0]);
  }
}

TEST_CASE("Deadline: a callback may arm itself again and make new ones", "[runtime]") {
  Bench bench;
  int fired = 0;
  std::unique_ptr<Deadline> made;
  std::unique_ptr<Deadline> repeating;
  repeating = std::make_unique<Deadline>(bench.loop, [&] {
    if (++fired < 3) {
      repeating->arm(kSoon);
    } else {
      made = std::make_unique<Deadline>(bench.loop, [&fired] { fired += 100; });
      made->arm(kSoon);
    }
  });
  repeating->arm(kSoon);
  bench.run();
  CHECK(fired == 103);
}

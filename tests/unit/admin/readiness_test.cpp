#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "admin/readiness.hpp"

using namespace sluice::admin;

TEST_CASE("Readiness: ready when every condition is met", "[admin]") {
  Readiness readiness;
  CHECK(readiness.ready());
  const Readiness::Condition store = readiness.add("store", "not opened yet");
  const Readiness::Condition listener = readiness.add("listener");
  CHECK_FALSE(readiness.ready());
  store.met();
  CHECK_FALSE(readiness.ready());
  listener.met();
  CHECK(readiness.ready());
  store.unmet("read-only file system");
  CHECK_FALSE(readiness.ready());
  const std::vector<Readiness::Check> checks = readiness.checks();
  REQUIRE(checks.size() == 2);
  CHECK(checks[0].name == "store");
  CHECK(checks[0].reason == "read-only file system");
  CHECK(checks[1].met);
  CHECK(checks[1].reason.empty());
}

TEST_CASE("Readiness: conditions may be set while they are read", "[admin]") {
  Readiness readiness;
  const Readiness::Condition first = readiness.add("first");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&readiness, first, t] {
      const Readiness::Condition own = readiness.add("own");
      for (int i = 0; i < 500; ++i) {
        if (t % 2 == 0) {
          first.met();
        } else {
          first.unmet("again");
        }
        static_cast<void>(readiness.ready());
      }
      own.met();
    });
  }
  for (std::thread& thread : threads) thread.join();
  first.met();
  CHECK(readiness.ready());
  CHECK(readiness.checks().size() == 5);
}

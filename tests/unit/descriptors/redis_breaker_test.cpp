#include <atomic>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "descriptors/redis_breaker.hpp"

using namespace sluice;
using namespace std::chrono_literals;
using descriptors::RedisBreaker;

namespace {

struct Fixture {
  ManualClock clock;
  metrics::Gauge open;
  metrics::Counter skipped;
  RedisBreaker breaker{{.first_pause = 100ms, .last_pause = 1000ms, .nonsense_limit = 3}, clock, open, skipped};

  // Fails, from a request that was just admitted.
  void fail() { breaker.failed(breaker.admit().epoch, "gone"); }
  // Longer than the pause with its jitter, and shorter than the next one.
  bool probe_after(std::chrono::milliseconds pause) {
    clock.advance(pause * 7 / 10);
    if (breaker.admit().probe) return false;
    clock.advance(pause * 6 / 10);
    return breaker.admit().probe;
  }
};

}  // namespace

TEST_CASE("RedisBreaker: a failure opens it, one probe at a time closes it", "[descriptors]") {
  Fixture f;
  CHECK(f.breaker.admit().admitted);
  f.fail();
  CHECK_FALSE(f.breaker.closed());
  CHECK(f.open.value() == 1);
  CHECK_FALSE(f.breaker.admit().admitted);
  CHECK_FALSE(f.breaker.admit().probe);
  CHECK(f.skipped.value() == 2);

  CHECK(f.probe_after(100ms));
  // While that one is under way nobody else probes, however long it takes.
  f.clock.advance(1h);
  CHECK_FALSE(f.breaker.admit().probe);
  f.breaker.probe_succeeded();
  CHECK(f.breaker.closed());
  CHECK(f.open.value() == 0);
  CHECK(f.breaker.admit().admitted);
}

TEST_CASE("RedisBreaker: the pause doubles up to its limit", "[descriptors]") {
  Fixture f;
  f.fail();
  for (const auto pause : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    CHECK(f.probe_after(pause));
    f.breaker.probe_failed();
  }
  f.clock.advance(2s);
  CHECK(f.breaker.admit().probe);
  f.breaker.probe_succeeded();

  SECTION("and starts anew when Redis held for a while") {
    f.clock.advance(10s);
    f.fail();
    CHECK(f.probe_after(100ms));
  }
  SECTION("and does not when it fails as soon as it is trusted") {
    f.clock.advance(1ms);
    f.fail();
    CHECK(f.probe_after(1000ms));
  }
}

TEST_CASE("RedisBreaker: news of requests from before the last opening changes nothing", "[descriptors]") {
  Fixture f;
  const std::uint64_t before = f.breaker.admit().epoch;
  f.fail();
  REQUIRE(f.probe_after(100ms));
  f.breaker.probe_succeeded();
  f.breaker.failed(before, "late");
  CHECK(f.breaker.closed());
  f.breaker.failed(f.breaker.admit().epoch, "now");
  CHECK_FALSE(f.breaker.closed());
  // A failed probe is one that was asked for.
  f.breaker.probe_failed();
  CHECK(f.probe_after(200ms));
}

TEST_CASE("RedisBreaker: a spoilt key does not open it, nonsense throughout does", "[descriptors]") {
  Fixture f;
  const std::uint64_t epoch = f.breaker.admit().epoch;
  for (int i = 0; i < 10; ++i) {
    f.breaker.nonsense(epoch, "a list");
    f.breaker.nonsense(epoch, "a list");
    f.breaker.succeeded(epoch);
  }
  CHECK(f.breaker.closed());
  for (int i = 0; i < 3; ++i) f.breaker.nonsense(epoch, "a list");
  CHECK_FALSE(f.breaker.closed());
}

TEST_CASE("RedisBreaker: of many threads one is told to probe", "[descriptors]") {
  Fixture f;
  f.fail();
  f.clock.advance(1s);
  std::atomic<int> probes{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < 1000; ++n) probes += f.breaker.admit().probe ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(probes == 1);
  CHECK(f.skipped.value() == 4000);
}

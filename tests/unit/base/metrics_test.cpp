#include <cmath>
#include <stdexcept>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "base/metrics.hpp"

using namespace sluice;

TEST_CASE("Counter: what many threads add is the sum", "[base]") {
  metrics::Counter counter;
  std::vector<std::thread> threads;
  for (int i = 0; i < 12; ++i) {
    threads.emplace_back([&counter] {
      for (int n = 0; n < 1000; ++n) counter.add(2);
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(counter.value() == 24'000);
}

TEST_CASE("GaugeGuard: it subtracts once, also after a move", "[base]") {
  metrics::Gauge gauge;
  {
    metrics::GaugeGuard first(gauge);
    const metrics::GaugeGuard second(gauge);
    CHECK(gauge.value() == 2);
    const metrics::GaugeGuard moved(std::move(first));
    CHECK(gauge.value() == 2);
  }
  CHECK(gauge.value() == 0);
}

TEST_CASE("Histogram: buckets are cumulative and a bound belongs to its bucket", "[base]") {
  metrics::Histogram histogram({0.25, 1});
  for (const double seconds : {0.125, 0.25, 0.5, 1.0, 8.0}) histogram.observe(seconds);
  const metrics::Histogram::Snapshot snapshot = histogram.snapshot();
  REQUIRE(snapshot.cumulative.size() == 3);
  CHECK(snapshot.cumulative[0] == std::pair<double, std::uint64_t>{0.25, 2});
  CHECK(snapshot.cumulative[1] == std::pair<double, std::uint64_t>{1.0, 4});
  CHECK(std::isinf(snapshot.cumulative[2].first));
  CHECK(snapshot.cumulative[2].second == 5);
  CHECK(snapshot.count == 5);
  CHECK(snapshot.sum == Approx(9.875));
}

TEST_CASE("Histogram: bounds must ascend", "[base]") {
  CHECK_THROWS_AS(metrics::Histogram({1, 0.5}), std::logic_error);
}

TEST_CASE("Registry: the same name and labels are the same metric", "[base]") {
  metrics::Registry registry;
  metrics::Counter& first = registry.counter("a_total", "help", {{"kind", "x"}});
  CHECK(&registry.counter("a_total", "other help", {{"kind", "x"}}) == &first);
  CHECK(&registry.counter("a_total", "help", {{"kind", "y"}}) != &first);
  CHECK_THROWS_AS(registry.gauge("a_total", "help"), std::logic_error);
}

TEST_CASE("Registry: collecting gives every family, sorted, with its values", "[base]") {
  metrics::Registry registry;
  registry.gauge("b", "a gauge").set(-3);
  registry.counter("a_total", "a counter", {{"kind", "x"}}).add(7);
  registry.histogram("c_seconds", "a histogram", {1}).observe(0.5);
  registry.computed(metrics::Kind::gauge, "d", "computed", {}, [] { return 2.5; });
  const std::vector<metrics::Family> families = registry.collect();
  REQUIRE(families.size() == 4);
  CHECK(families[0].name == "a_total");
  CHECK(families[0].help == "a counter");
  CHECK(families[0].samples[0].labels == metrics::Labels{{"kind", "x"}});
  CHECK(families[0].samples[0].value == 7);
  CHECK(families[1].samples[0].value == -3);
  CHECK(families[2].kind == metrics::Kind::histogram);
  CHECK(families[2].samples[0].histogram.count == 1);
  CHECK(families[3].samples[0].value == 2.5);
}

TEST_CASE("Metrics: the usual latency bounds ascend", "[base]") {
  CHECK_NOTHROW(metrics::Histogram(metrics::latency_bounds()));
}

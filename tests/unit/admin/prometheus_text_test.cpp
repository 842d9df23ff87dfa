#include <catch2/catch.hpp>

#include "admin/prometheus_text.hpp"

using namespace sluice;
using namespace sluice::admin;

TEST_CASE("Prometheus text: counters, gauges and labels", "[admin]") {
  metrics::Registry registry;
  registry.counter("a_total", "Counts a.", {{"result", "hit"}}).add(3);
  registry.counter("a_total", "Counts a.", {{"result", "miss"}}).add(1);
  registry.gauge("b", "Measures b.").set(-2);
  CHECK(prometheus_text(registry.collect()) ==
        "# HELP a_total Counts a.\n"
        "# TYPE a_total counter\n"
        "a_total{result=\"hit\"} 3\n"
        "a_total{result=\"miss\"} 1\n"
        "# HELP b Measures b.\n"
        "# TYPE b gauge\n"
        "b -2\n");
}

TEST_CASE("Prometheus text: a histogram's buckets end at infinity", "[admin]") {
  metrics::Registry registry;
  metrics::Histogram& histogram = registry.histogram("c_seconds", "Times c.", {0.25, 1});
  for (const double seconds : {0.125, 0.5, 4.0}) histogram.observe(seconds);
  CHECK(prometheus_text(registry.collect()) ==
        "# HELP c_seconds Times c.\n"
        "# TYPE c_seconds histogram\n"
        "c_seconds_count 3\n"
        "c_seconds_sum 4.625\n"
        "c_seconds_bucket{le=\"0.25\"} 1\n"
        "c_seconds_bucket{le=\"1\"} 2\n"
        "c_seconds_bucket{le=\"+Inf\"} 3\n");
}

TEST_CASE("Prometheus text: label values are escaped", "[admin]") {
  metrics::Registry registry;
  registry.counter("a_total", "A.", {{"x", "q\"b\\s\nn"}}).add();
  CHECK(prometheus_text(registry.collect()).find("a_total{x=\"q\\\"b\\\\s\\nn\"} 1\n") != std::string::npos);
}

TEST_CASE("Prometheus text: nothing gives nothing", "[admin]") { CHECK(prometheus_text({}).empty()); }

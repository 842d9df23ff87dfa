#include <catch2/catch.hpp>

#include "admin/history.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

Totals requests(double n) {
  Totals out;
  out.requests = n;
  return out;
}

const Clock::Monotonic kStart{100h};

}  // namespace

TEST_CASE("History: without a sample everything counts", "[admin]") {
  const History history;
  CHECK(history.since(1h, kStart, requests(7)).requests == 7);
  CHECK(history.steps(requests(7)).empty());
}

TEST_CASE("History: steps between samples, the last one to now", "[admin]") {
  History history;
  history.add(kStart, requests(0));
  history.add(kStart + 30s, requests(10));
  history.add(kStart + 60s, requests(15));
  const std::vector<Totals> steps = history.steps(requests(16));
  REQUIRE(steps.size() == 3);
  CHECK(steps[0].requests == 10);
  CHECK(steps[1].requests == 5);
  CHECK(steps[2].requests == 1);
  CHECK(history.since(1h, kStart + 70s, requests(16)).requests == 16);
  CHECK(history.since(40s, kStart + 70s, requests(16)).requests == 6);
  CHECK(history.since(1s, kStart + 70s, requests(16)).requests == 1);
}

TEST_CASE("History: the ring holds an hour, however long it goes on", "[admin]") {
  History history;
  for (int i = 0; i < 1000; ++i) history.add(kStart + i * History::kInterval, requests(i));
  const Clock::Monotonic now = kStart + 999 * History::kInterval + 10s;
  const std::vector<Totals> steps = history.steps(requests(1001));
  REQUIRE(steps.size() == History::kSamples);
  CHECK(steps.front().requests == 1);
  CHECK(steps.back().requests == 2);
  CHECK(history.since(1h, now, requests(1001)).requests == 122);
  CHECK(history.since(5min, now, requests(1001)).requests == 12);
}

TEST_CASE("History: totals count as the hit rate does", "[admin]") {
  metrics::Registry registry;
  const auto count = [&](const char* name, const char* result, std::uint64_t n) {
    registry.counter(name, "", {{"result", result}}).add(n);
  };
  count("sluice_blob_requests_total", "hit", 7);
  count("sluice_blob_requests_total", "join", 2);
  count("sluice_blob_requests_total", "miss", 1);
  count("sluice_blob_requests_total", "unknown", 100);
  count("sluice_manifest_requests_total", "stale", 1);
  count("sluice_manifest_requests_total", "error", 3);
  count("sluice_list_requests_total", "hit", 5);
  registry.counter("sluice_client_sent_bytes_total", "").add(30);
  registry.counter("sluice_fill_received_bytes_total", "").add(10);
  const Totals totals = totals_of(registry.collect());
  CHECK(totals.blobs_served == 9);
  CHECK(totals.blobs_counted == 10);
  CHECK(totals.served() == 10);
  CHECK(totals.counted() == 14);
  CHECK(totals.requests == 119);
  CHECK(totals.sent_bytes == 30);
  CHECK(totals.received_bytes == 10);
}

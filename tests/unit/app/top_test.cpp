#include <catch2/catch.hpp>

#include "app/commands/top.hpp"

using namespace sluice::app;
using nlohmann::json;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

json now() {
  return json::parse(R"({
    "version": "1.2.3", "uptime_seconds": 100, "ready": true,
    "checks": [{"name": "store", "ready": true}, {"name": "upstreams", "ready": true, "reason": "quay.io is offline"}],
    "last_hour": {"requests": 40, "sent_bytes": 2097152, "received_bytes": 1048576, "hit_ratio": 0.925, "clients": 1,
                  "pulls": 3, "at_least": false},
    "last_minutes": {"requests": 4}, "since_start": {"requests": 70, "sent_bytes": 11534336, "received_bytes": 0},
    "fills_in_flight": 3,
    "fills": [{"digest": "sha256:0123456789abcdef", "upstream": "docker.io", "bytes": 50, "size": 100, "readers": 4,
               "seconds": 12.5, "pace": "reader", "stored": false}],
    "upstreams": [{"name": "docker.io", "state": "answers", "answers": 12, "failures": 1, "received_bytes": 10,
                   "connections": 1, "waiting": 2, "mean_queue_seconds": 0.25, "quota_left": 7, "quota": 100},
                  {"name": "ghcr.io", "state": "not asked yet", "answers": 0}],
    "store": {"blobs": 1, "bytes": 1024, "max_bytes": 2048, "mean_eviction_age_seconds": 259200},
    "hot": [{"name": "docker.io/library/a", "requests": 9, "bytes": 10}],
    "errors": [{"at": "2026-01-02T03:04:05Z", "level": "warn", "component": "store", "message": "disk full", "times": 2}]
  })");
}

}  // namespace

TEST_CASE("top: what the running sluice does", "[app]") {
  const std::string text = top_text({"127.0.0.1:5001", now(), {}});
  CHECK(has(text, "sluice 1.2.3 on 127.0.0.1:5001, up for 1m40s, ready\n  upstreams: quay.io is offline\n"));
  CHECK(has(text, "Last hour  1 client, 3 pulls, 40 requests; 92.5 % from the cache (last 5 minutes -)\n"));
  CHECK(has(text, "2 MiB to clients, 1 MiB from upstream\n"));
  CHECK(has(text, "Stored     1 KiB of 2 KiB, 1 blob; what was evicted had been unused for 3 days on average\n"));
  CHECK(has(text, "3 downloads in flight\n"));
  CHECK(has(text, "sha256:0123456789ab  docker.io"));
  CHECK(has(text, "reader, not stored\n"));
  CHECK(has(text, "7 of 100"));
  CHECK_FALSE(has(text, "ghcr.io"));
  json queued = now();
  queued["upstreams"][1]["waiting"] = 3;
  CHECK(has(top_text({"127.0.0.1:5001", queued, {}}), "ghcr.io    not asked yet"));
  CHECK(has(text, "docker.io/library/a          9   10 B\n"));
  CHECK(has(text, "2026-01-02T03:04:05Z (2 times)  store: disk full\n"));
  // Seconds need two looks.
  CHECK_FALSE(has(text, "requests/s"));
}

TEST_CASE("top: what changed between two looks is told by the second", "[app]") {
  json before = now();
  before["uptime_seconds"] = 90;
  before["since_start"] = {{"requests", 20}, {"sent_bytes", 1048576}, {"received_bytes", 0}};
  CHECK(has(top_text({"a", now(), before}), "Now        5 requests/s, 1 MiB/s to clients, 0 B/s from upstream\n"));
  before["uptime_seconds"] = 98.4;
  CHECK(has(top_text({"a", now(), before}), "Now        31 requests/s"));
  // After a restart the counters begin anew.
  before["since_start"]["requests"] = 1000;
  CHECK(has(top_text({"a", now(), before}), "Now        0 requests/s"));
}

TEST_CASE("top: an answer that lacks everything is shown nevertheless", "[app]") {
  CHECK(has(top_text({"a", json::object(), {}}), "NOT READY"));
}

TEST_CASE("top: a text is cut to the terminal, by characters", "[app]") {
  CHECK(fitted("abc\nd\n", 9, 9) == "abc\nd\n");
  CHECK(fitted("abc\ndef\nghi\n", 2, 2) == "ab\nde");
  CHECK(fitted("\xC3\xA4\xC3\xB6\xC3\xBC\nx", 2, 2) == "\xC3\xA4\xC3\xB6\nx");
  CHECK(fitted("", 2, 2).empty());
}

TEST_CASE("pulls: a table, with each request where that is asked for", "[app]") {
  const json answer = json::parse(R"({"pulls": [
    {"started_at": "2023-11-14T22:12:00Z", "client": "10.0.0.1", "upstream": "docker.io", "repository": "library/a",
     "reference": "3.18", "took_s": 12.34, "bytes": 1048576, "cached": 1, "fetched": 2, "failed": 0, "first_byte_s": 0.5,
     "upstream_s": 11, "client_s": 0.25,
     "requests": [{"method": "GET", "reference": "sha256:0123456789abcdef", "status": 200, "complete": false,
                   "cache": "miss", "bytes": 10, "total_s": 200, "first_byte_s": 0.1, "upstream_s": 0, "client_s": 0}]},
    {"started_at": "2023-11-14T20:13:20Z", "client": "10.0.0.2", "upstream": "ghcr.io", "repository": "b",
     "reference": "sha256:0123456789abcdef", "failed": 1}]})");
  const auto at = std::chrono::system_clock::from_time_t(1'700'000'000);
  const std::string text = pulls_text(answer, false, at);
  CHECK(has(text, "FIRST BYTE  UPSTREAM  TO CLIENT\n"));
  CHECK(has(text, "1 minute ago  10.0.0.1  docker.io/library/a:3.18"));
  CHECK(has(text, "1 cached, 2 fetched "));
  CHECK(has(text, "1 MiB   12.3 s"));
  CHECK(has(text, "0.500 s    11.0 s    0.250 s\n"));
  CHECK(has(text, "ghcr.io/b@sha256:0123456789ab"));
  CHECK(has(text, "0 cached, 0 fetched, 1 failed"));
  CHECK_FALSE(has(text, "miss"));
  const std::string all = pulls_text(answer, true, at);
  CHECK(has(all, "  GET sha256:0123456789ab"));
  CHECK(has(all, "200 miss, broken off"));
  CHECK(has(all, "3m20s"));
  CHECK(pulls_text(json::object(), true, at).empty());
}

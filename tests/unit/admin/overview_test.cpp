#include <atomic>
#include <optional>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <boost/asio/co_spawn.hpp>

#include "admin/overview.hpp"
#include "admin/overview_json.hpp"
#include "runtime/loop.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

struct Bench {
  explicit Bench(Overview::Params params = {"1.2.3"}) {
    clock.advance(1000h);
    overview.emplace(registry, readiness, clock, recent, std::move(params));
  }

  void refresh() {
    runtime::Loop loop;
    boost::asio::co_spawn(loop.get_executor(), overview->refresh(), [](std::exception_ptr) {});
    loop.run();
  }

  metrics::Registry registry;
  Readiness readiness;
  ManualClock clock;
  RecentRequests recent{clock};
  std::optional<Overview> overview;
};

Noted blob_request() {
  return {.client = "10.0.0.1:1",
          .method = "GET",
          .upstream = "docker.io",
          .repository = "library/a",
          .reference = "sha256:aa",
          .cache = "miss",
          .status = 200,
          .bytes = 100,
          .first_byte = 20ms,
          .upstream_wait = 30ms,
          .total = 100ms};
}

}  // namespace

TEST_CASE("Overview: the last hour and the last minutes are differences", "[admin]") {
  Bench bench;
  metrics::Counter& hits = bench.registry.counter("sluice_blob_requests_total", "", {{"result", "hit"}});
  hits.add(10);
  for (int i = 0; i < 140; ++i) {
    bench.clock.advance(30s);
    bench.overview->sample();
    if (i == 70) hits.add(5);
  }
  hits.add(2);
  const OverviewData data = bench.overview->look();
  CHECK(data.uptime == 70min);
  CHECK(data.totals.requests == 17);
  CHECK(data.hour.requests == 7);
  CHECK(data.minutes.requests == 2);
  CHECK(data.steps.size() == History::kSamples);
}

TEST_CASE("Overview: what is big is looked at every 20 s, while somebody looks", "[admin]") {
  std::atomic<int> looks{0};
  std::vector<BigRepository> stored;
  runtime::DiskPool pool(1);
  Bench bench({"1.2.3",
               {},
               [&] {
                 ++looks;
                 return stored;
               },
               &pool});
  CHECK(bench.overview->look().big.empty());
  CHECK(looks == 0);
  bench.refresh();
  bench.refresh();
  CHECK(looks == 1);
  // Where nothing was stored, sooner.
  stored = {{"docker.io/library/a", 7, 1}};
  bench.clock.advance(2s);
  bench.refresh();
  CHECK(looks == 2);
  REQUIRE(bench.overview->look().big.size() == 1);
  bench.clock.advance(19s);
  bench.refresh();
  CHECK(looks == 2);
  bench.clock.advance(2s);
  bench.refresh();
  CHECK(looks == 3);
  pool.stop();
}

TEST_CASE("Overview: as JSON", "[admin]") {
  Bench bench({"1.2.3", [] {
                 return std::vector<FillNow>{{"docker.io", "sha256:aa", 2s, 10, 40, 5, true, false},
                                             {"docker.io", "sha256:bb", 1s, 10, std::nullopt, 1, false, true}};
               }});
  bench.readiness.add("store", "not \xFF opened");
  bench.registry.counter("sluice_blob_requests_total", "", {{"result", "hit"}}).add(3);
  bench.registry.counter("sluice_blob_requests_total", "", {{"result", "miss"}}).add(1);
  bench.registry.gauge("sluice_upstream_up", "", {{"upstream", "docker.io"}}).set(0);
  bench.registry.gauge("sluice_store_max_bytes", "").set(1000);
  bench.recent.note(blob_request());
  bench.clock.advance(1500ms);
  const nlohmann::json json = nlohmann::json::parse(to_json(bench.overview->look()));
  CHECK(json["uptime_seconds"] == 1.5);
  CHECK(json["version"] == "1.2.3");
  CHECK(json["ready"] == false);
  CHECK(json["last_hour"]["clients"] == 1);
  CHECK(json["last_hour"]["pulls"] == 1);
  CHECK(json["last_hour"]["requests"] == 4);
  CHECK(json["last_hour"]["hit_ratio"] == 0.75);
  REQUIRE(json["fills"].size() == 2);
  CHECK(json["fills"][0]["size"] == 40);
  CHECK(json["fills"][0]["pace"] == "reader");
  CHECK(json["fills"][0]["stored"] == true);
  CHECK_FALSE(json["fills"][1].contains("size"));
  CHECK(json["upstreams"][0]["state"] == "no usable answers");
  CHECK(json["store"]["max_bytes"] == 1000);
  CHECK(json["hot"][0]["name"] == "docker.io/library/a");
}

TEST_CASE("Overview: the last pulls as JSON, with where their time went", "[admin]") {
  Bench bench;
  bench.recent.note(blob_request());
  const nlohmann::json json = nlohmann::json::parse(to_json(bench.overview->pulls(9)));
  REQUIRE(json["pulls"].size() == 1);
  const nlohmann::json& pull = json["pulls"][0];
  CHECK(pull["repository"] == "library/a");
  CHECK(pull["client"] == "10.0.0.1");
  CHECK(pull["took_s"] == 0.1);
  CHECK(pull["first_byte_s"] == 0.02);
  CHECK(pull["upstream_s"] == 0.03);
  CHECK(pull["client_s"] == 0.05);
  CHECK(pull["requests"][0]["cache"] == "miss");
}

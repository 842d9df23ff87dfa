#include <string>
#include <thread>

#include <fmt/format.h>
#include <catch2/catch.hpp>

#include "admin/recent_requests.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

Noted request(std::string_view client, std::string_view repository, std::string_view reference = "latest") {
  return {.client = client,
          .method = "GET",
          .upstream = "docker.io",
          .repository = repository,
          .reference = reference,
          .cache = "hit",
          .status = 200,
          .bytes = 10};
}

struct Bench {
  Bench() { clock.advance(1000h); }
  ManualClock clock;
  RecentRequests recent{clock};
};

}  // namespace

TEST_CASE("Recent requests: the last ones are kept, the newest first, and no more than the ring holds", "[admin]") {
  Bench bench;
  for (std::size_t i = 0; i < RecentRequests::kRing + 10; ++i) {
    bench.clock.advance(1ms);
    bench.recent.note(request("10.0.0.1:1", "library/a", std::to_string(i)));
  }
  const std::vector<RequestRecord> last = bench.recent.last();
  REQUIRE(last.size() == RecentRequests::kRing);
  CHECK(last.front().reference == std::to_string(RecentRequests::kRing + 9));
  CHECK(last.back().reference == "10");
  CHECK(last.front().client == "10.0.0.1");
  CHECK(last.front().repository == "library/a");
  CHECK(last.front().cache == "hit");
  CHECK(last.front().ended == bench.clock.wall());
}

TEST_CASE("Recent requests: texts that are too long are cut, and requests for no repository left out", "[admin]") {
  Bench bench;
  bench.recent.note(request("10.0.0.1:1", ""));
  CHECK(bench.recent.last().empty());
  const std::string name(500, 'n');
  bench.recent.note(request(name, name, name));
  REQUIRE(bench.recent.last().size() == 1);
  CHECK(name.starts_with(bench.recent.last()[0].repository));
  CHECK_FALSE(bench.recent.last()[0].repository.empty());
}

TEST_CASE("Recent requests: a pull is a client and a repository, until a minute without", "[admin]") {
  Bench bench;
  for (int i = 0; i < 9; ++i) bench.recent.note(request("10.0.0.1:1", "library/a"));
  CHECK(bench.recent.use().clients == 1);
  CHECK(bench.recent.use().pulls == 1);
  bench.recent.note(request("10.0.0.1:2", "library/b"));
  bench.recent.note(request("10.0.0.2:1", "library/a"));
  CHECK(bench.recent.use().clients == 2);
  CHECK(bench.recent.use().pulls == 3);
  // It goes on into the next minute.
  bench.clock.advance(1min);
  bench.recent.note(request("10.0.0.1:1", "library/a"));
  CHECK(bench.recent.use().pulls == 3);
  bench.clock.advance(5min);
  bench.recent.note(request("10.0.0.1:1", "library/a"));
  CHECK(bench.recent.use().pulls == 4);
  CHECK_FALSE(bench.recent.use().at_least);
}

TEST_CASE("Recent requests: a long download is one pull, counted from its beginning", "[admin]") {
  Bench bench;
  bench.recent.note(request("10.0.0.1:1", "library/a"));
  bench.clock.advance(10min);
  Noted download = request("10.0.0.1:1", "library/a");
  download.total = 10min;
  bench.recent.note(download);
  CHECK(bench.recent.use().pulls == 1);
  // One longer than the hour, too.
  bench.clock.advance(5h);
  download.total = 4h;
  bench.recent.note(download);
  CHECK(bench.recent.use().pulls == 1);
}

TEST_CASE("Recent requests: what is older than an hour does not count", "[admin]") {
  Bench bench;
  bench.recent.note(request("10.0.0.1:1", "library/a"));
  bench.clock.advance(59min);
  bench.recent.note(request("10.0.0.2:1", "library/b"));
  CHECK(bench.recent.use().clients == 2);
  CHECK(bench.recent.hottest(9).size() == 2);
  bench.clock.advance(2min);
  CHECK(bench.recent.use().clients == 1);
  CHECK(bench.recent.use().pulls == 1);
  bench.clock.advance(70min);
  CHECK(bench.recent.use().clients == 0);
  CHECK(bench.recent.hottest(9).empty());
}

TEST_CASE("Recent requests: those that were refused or failed are no pulls", "[admin]") {
  Bench bench;
  Noted refused = request("10.0.0.1:1", "library/a");
  refused.status = 404;
  bench.recent.note(refused);
  CHECK(bench.recent.last().size() == 1);
  CHECK(bench.recent.use().pulls == 0);
  CHECK(bench.recent.hottest(9).empty());
}

TEST_CASE("Recent requests: what several threads have seen counts once", "[admin]") {
  Bench bench;
  for (int i = 0; i < 4; ++i) {
    std::thread([&] {
      bench.recent.note(request("10.0.0.1:1", "library/a"));
      bench.recent.note(request("10.0.0.1:1", "library/b"));
      bench.recent.note(request("10.0.0.1:1", "library/a"));
    }).join();
  }
  CHECK(bench.recent.use().clients == 1);
  CHECK(bench.recent.use().pulls == 2);
  CHECK(bench.recent.last().size() == 12);
  const std::vector<HotRepository> hot = bench.recent.hottest(1);
  REQUIRE(hot.size() == 1);
  CHECK(hot[0].name == "docker.io/library/a");
  CHECK(hot[0].requests == 8);
  CHECK(hot[0].bytes == 80);
}

TEST_CASE("Recent requests: more than the table holds is a lower bound, and says so", "[admin]") {
  Bench bench;
  for (std::size_t i = 0; i < 2 * RecentRequests::kSeen; ++i) {
    bench.recent.note(request(fmt::format("10.0.{}.{}:1", i / 256, i % 256), "library/a"));
  }
  CHECK(bench.recent.use().at_least);
  CHECK(bench.recent.use().clients > RecentRequests::kSeen / 2);
  CHECK(bench.recent.use().clients <= RecentRequests::kSeen);
  bench.clock.advance(61min);
  CHECK_FALSE(bench.recent.use().at_least);
}

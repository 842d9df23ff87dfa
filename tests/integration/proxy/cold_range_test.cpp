// Ranges of what is not here: which are passed through, and how.
#include <chrono>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <catch2/catch.hpp>

#include "served.hpp"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("Proxy: a range far ahead of a fill is fetched by itself", "[proxy]") {
  Served served(4'000'000, false, 100'000);
  const auto [range, first, length] =
      GENERATE(std::tuple<std::string, std::size_t, std::size_t>{"bytes=-1", 3'999'999, 1},
               std::tuple<std::string, std::size_t, std::size_t>{"bytes=-100", 3'999'900, 100},
               std::tuple<std::string, std::size_t, std::size_t>{"bytes=3000000-3000099", 3'000'000, 100},
               std::tuple<std::string, std::size_t, std::size_t>{"bytes=3000000-3399999", 3'000'000, 400'000});
  // While upstream holds the fill back.
  const Response response = served.range(range);
  CHECK(response.status == 206);
  CHECK(response.complete);
  CHECK((response.body == served.blob.substr(first, length)));
  CHECK(response.field("docker-content-digest") == served.digest.to_string());
  CHECK(response.field("content-range") ==
        "bytes " + std::to_string(first) + "-" + std::to_string(first + length - 1) + "/4000000");
  const FakeRegistry::Seen seen = served.cache.hub().seen();
  CHECK(seen.ranges == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{first, first + length - 1}});
  CHECK(seen.downloads == 1);
  CHECK(seen.blob_heads == 0);
  CHECK(served.cache.counted_blobs("range", 1));
  CHECK(served.cache.metric("sluice_range_received_bytes_total") == static_cast<double>(length));
  CHECK(served.cache.access_log().back().find("cache=range") != std::string::npos);
  // The fill goes on as if nothing had been.
  Response rest;
  rest.fields.emplace_back("content-length", "4000000");
  rest.status = 200;
  served.cache.hub().release(served.digest);
  served.starter->read_rest(rest);
  CHECK(rest.complete);
  CHECK((rest.body == served.blob));
  REQUIRE(served.cache.wait_idle());
  CHECK(served.cache.hub().seen().downloads == 1);
  CHECK(served.cache.store().find(served.digest).has_value());
}

TEST_CASE("Proxy: a range far ahead of a fill leaves the fill its pace", "[proxy]") {
  Fixture::Params params;
  params.window_patience = std::chrono::milliseconds(1);
  Fixture cache(params);
  const std::string blob = content(32'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  cache.hub().hold(digest, 100'000);
  Client stalled(cache.port(), 4096);
  stalled.send("GET", path);
  Response response = stalled.read_head();
  REQUIRE(response.status == 200);
  CHECK((get(cache.port(), path, {{"Range", "bytes=-100"}}).body == blob.substr(31'999'900)));
  // The window is full when the fill gives its connection up: nobody who reads has gone so far ahead.
  cache.hub().release(digest);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.open == 0; }));
  CHECK(cache.hub().seen().bytes < 16'000'000);
  stalled.read_rest(response);
  CHECK((response.body == blob));
  CHECK(cache.hub().seen().ranges.size() == 1);
}

TEST_CASE("Proxy: a range that is nearly there waits for the fill", "[proxy]") {
  Served served(2'000'000, false, 100'000);
  REQUIRE(served.starter->read_bytes(100'000).size() == 100'000);
  Client near(served.cache.port());
  near.send("GET", served.path, {{"Range", "bytes=300000-300099"}});
  Response response = near.read_head();
  CHECK(response.status == 206);
  served.cache.hub().hold(served.digest, 310'000);
  near.read_rest(response);
  CHECK((response.body == served.blob.substr(300'000, 100)));
  CHECK(served.cache.hub().seen().ranges.empty());
  served.cache.hub().release(served.digest);
}

TEST_CASE("Proxy: a probe of a cold blob fetches the probe alone", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  Response response = get(cache.port(), path, {{"Range", "bytes=0-1"}});
  CHECK(response.status == 206);
  CHECK((response.body == blob.substr(0, 2)));
  response = get(cache.port(), path, {{"Range", "bytes=-50"}});
  CHECK((response.body == blob.substr(999'950)));
  response = get(cache.port(), path, {{"Range", "bytes=1000000-1000001"}});
  CHECK(response.status == 416);
  CHECK(response.field("content-range") == "bytes */1000000");
  const FakeRegistry::Seen seen = cache.hub().seen();
  CHECK(seen.downloads == 0);
  CHECK(seen.bytes == 52);
  CHECK(seen.blob_heads == 1);
  CHECK(cache.incoming_files() == 0);
  CHECK_FALSE(cache.store().find(digest).has_value());
  // Whoever may not have it learns nothing this way.
  CHECK(get(cache.port(), blob_path("library/other", digest), {{"Range", "bytes=0-1"}}).status == 404);
}

TEST_CASE("Proxy: several ranges of a cold blob", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  // As podman asks for a layer of zstd:chunked: upstream is asked once for what lies so near.
  Response response = get(cache.port(), path, {{"Range", "bytes=1251-2042,2051-5650"}});
  REQUIRE(response.status == 206);
  CHECK(response.complete);
  std::vector<Part> parts = parse_multipart(response);
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].content_range == "bytes 1251-2042/1000000");
  CHECK((parts[0].body == blob.substr(1251, 792)));
  CHECK((parts[1].body == blob.substr(2051, 3600)));
  CHECK(cache.hub().seen().ranges == std::vector<std::pair<std::uint64_t, std::uint64_t>>{{1251, 5650}});
  // In the order asked, long and short, from far apart.
  response = get(cache.port(), path, {{"Range", "bytes=-10,100-300099,500000-500001"}});
  REQUIRE(response.status == 206);
  parts = parse_multipart(response);
  REQUIRE(parts.size() == 3);
  CHECK((parts[0].body == blob.substr(999'990)));
  CHECK((parts[1].body == blob.substr(100, 300'000)));
  CHECK((parts[2].body == blob.substr(500'000, 2)));
  CHECK(cache.hub().seen().ranges.size() == 4);
  // What lies outside is left out, unless nothing else is asked.
  CHECK((get(cache.port(), path, {{"Range", "bytes=5-9,2000000-"}}).body == blob.substr(5, 5)));
  CHECK(cache.hub().wait_until([](const auto& seen) { return seen.open == 0; }));
}

TEST_CASE("Proxy: a blob that many ranges were wanted of is fetched whole", "[proxy]") {
  Fixture cache;
  const std::string blob = content(4'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 0);
  const std::string path = blob_path("library/app", digest);
  for (int i = 0; i < 5; ++i) {
    CHECK(get(cache.port(), path, {{"Range", "bytes=3000000-3099999"}}).body.size() == 100'000);
  }
  CHECK(cache.hub().seen().downloads == 0);
  // The limit is reached: a fill starts, which has not come this far.
  CHECK((get(cache.port(), path, {{"Range", "bytes=3500000-3599999"}}).body == blob.substr(3'500'000, 100'000)));
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 1; }));
  CHECK((get(cache.port(), path, {{"Range", "bytes=3600000-3699999"}}).body == blob.substr(3'600'000, 100'000)));
  cache.hub().release(digest);
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
  CHECK((get(cache.port(), path, {{"Range", "bytes=3600000-3699999"}}).body == blob.substr(3'600'000, 100'000)));
  CHECK(cache.counted_blobs("hit", 1));
}

TEST_CASE("Proxy: which cold ranges start a fill", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string range = GENERATE("bytes=0-", "bytes=999000-", "bytes=0-699999", "bytes=10-599999");
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", range}});
  INFO(range);
  CHECK(response.status == 206);
  CHECK(response.complete);
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.hub().seen().ranges.empty());
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
}

TEST_CASE("Proxy: with fill.ranges: fill a cold blob is fetched for a range", "[proxy]") {
  Fixture::Params params;
  params.direct_ranges = false;
  Fixture cache(params);
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", "bytes=600000-600009"}});
  CHECK(response.status == 206);
  CHECK((response.body == blob.substr(600'000, 10)));
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.hub().seen().offsets == std::vector<std::uint64_t>{0});
  CHECK(cache.hub().seen().ranges.empty());
}

TEST_CASE("Proxy: upstream has nothing that fits a range", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  FakeRegistry::Plan plan;
  SECTION("it answers with the whole") { plan.ignore_range = true; }
  SECTION("its blob has another size") { plan.announced = 999'999; }
  SECTION("it has no byte there") { plan.refuse = Error{Errc::range_invalid}; }
  SECTION("it fails where a range is asked for") { plan.refuse = Error{Errc::upstream_failed}; }
  SECTION("it breaks HTTP") { plan.refuse = Error{Errc::upstream_protocol}; }
  cache.hub().plan_range(digest, plan);
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", "bytes=600000-600009"}});
  CHECK(response.status == 206);
  CHECK((response.body == blob.substr(600'000, 10)));
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
}

TEST_CASE("Proxy: upstream refuses a range, or is out", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1'000'000));
  const std::string path = blob_path("library/app", digest);
  REQUIRE(head(cache.port(), path).status == 200);
  cache.hub().plan_range(digest, {.refuse = Error{Errc::denied}});
  CHECK(get(cache.port(), path, {{"Range", "bytes=0-9"}}).status == 403);
  cache.hub().plan_range(digest, {.refuse = Error{Errc::upstream_unreachable}});
  CHECK(get(cache.port(), path, {{"Range", "bytes=0-9"}}).status == 502);
  CHECK(cache.hub().seen().downloads == 0);
  cache.hub().plan_range(digest, {.refuse = Error{Errc::blob_unknown}});
  CHECK(get(cache.port(), path, {{"Range", "bytes=0-9"}}).status == 404);
}

TEST_CASE("Proxy: a range goes on where upstream broke off", "[proxy]") {
  Fixture cache;
  const std::string blob = content(4'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::size_t size = GENERATE(std::size_t{1000}, std::size_t{400'000});
  cache.hub().plan_range(digest, {.break_at = 1'000'500});
  cache.hub().plan_range(digest, {.break_at = 1'000'500});
  const std::string range = "bytes=1000000-" + std::to_string(1'000'000 + size - 1);
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", range}});
  CHECK(response.status == 206);
  CHECK(response.complete);
  CHECK((response.body == blob.substr(1'000'000, size)));
  CHECK(cache.hub().seen().ranges.size() == 3);
  CHECK(cache.hub().seen().ranges.back().first == 1'000'500);
  CHECK(cache.hub().seen().downloads == 0);

  // When it does not help, the body ends early, with FIN.
  for (int i = 0; i < 10; ++i) cache.hub().plan_range(digest, {.break_at = 1'500'000});
  Client client(cache.port());
  client.send("GET", blob_path("library/app", digest), {{"Range", "bytes=1400000-1799999"}});
  const Response broken = client.read_response();
  CHECK(broken.status == 206);
  CHECK_FALSE(broken.complete);
  CHECK_FALSE(broken.reset);
  CHECK((broken.body == blob.substr(1'400'000, 100'000)));
}

TEST_CASE("Proxy: a client that takes nothing of a range holds no connection to upstream", "[proxy]") {
  Fixture::Params params;
  params.window_patience = std::chrono::milliseconds(1);
  params.range_limit_bytes = 100'000'000;
  Fixture cache(params);
  const std::string blob = content(32'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  Client client(cache.port(), 4096);
  client.send("GET", blob_path("library/app", digest), {{"Range", "bytes=1000000-15999999"}});
  Response response = client.read_head();
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes > 0 && seen.open == 0; }));
  client.read_rest(response);
  CHECK(response.complete);
  CHECK((response.body == blob.substr(1'000'000, 15'000'000)));
  CHECK(cache.hub().seen().downloads == 0);
}

TEST_CASE("Proxy: many clients ask for the same short range", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  REQUIRE(head(cache.port(), path).status == 200);
  cache.hub().hold_questions();
  std::vector<Client> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back(cache.port()).send("GET", path, {{"Range", "bytes=-100"}});
  }
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return !seen.ranges.empty(); }));
  cache.hub().let_questions();
  for (Client& client : clients) CHECK((client.read_response().body == blob.substr(999'900)));
  // Those that came while the first one was waiting have put no question of their own.
  CHECK(cache.hub().seen().ranges.size() <= 8);
  CHECK(cache.hub().seen().downloads == 0);
}

TEST_CASE("Proxy: ranges of an upstream with passthrough are asked for with the client's login", "[proxy]") {
  Fixture::Params params;
  params.quay_passthrough = access::Passthrough{};
  Fixture cache(params);
  const std::string blob = content(1'000'000);
  const oci::Digest digest = cache.quay().add_blob("acme/app", blob);
  cache.quay().allow("Basic alice", "acme/app");
  const std::string path = blob_path("quay.io/acme/app", digest);
  CHECK(get(cache.port(), path, {{"Range", "bytes=0-9"}}).status == 401);
  CHECK(get(cache.port(), path, {{"Range", "bytes=0-9"}, {"Authorization", "Basic mallory"}}).status == 403);
  CHECK(cache.quay().seen().ranges.empty());
  const Response response = get(cache.port(), path, {{"Range", "bytes=0-9"}, {"Authorization", "Basic alice"}});
  CHECK(response.status == 206);
  CHECK((response.body == blob.substr(0, 10)));
  CHECK(cache.quay().seen().ranges.size() == 1);
  CHECK(cache.quay().seen().behalves.back() == "Basic alice");
}

TEST_CASE("Proxy: a range of what upstream no longer has is unknown, and then to HEAD too", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(4'000'000));
  const std::string path = blob_path("library/app", digest);
  CHECK(head(cache.port(), path).status == 200);
  cache.hub().fail_all(Error{Errc::blob_unknown, "gone"});
  CHECK(get(cache.port(), path, {{"Range", "bytes=3000000-3000099"}}).status == 404);
  CHECK(head(cache.port(), path).status == 404);
}

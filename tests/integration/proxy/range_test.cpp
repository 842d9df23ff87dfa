// Ranges and conditionals, at rest and in flight.
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

struct Part {
  std::string content_range;
  std::string body;
};

// RFC 9110 section 14.6.
std::vector<Part> parse_multipart(const Response& response) {
  std::vector<Part> parts;
  const std::string type = response.field("content-type");
  const std::size_t at = type.find("boundary=");
  if (at == std::string::npos) return parts;
  const std::string delimiter = "\r\n--" + type.substr(at + 9);
  std::size_t from = response.body.find(delimiter);
  while (from != std::string::npos) {
    from += delimiter.size();
    if (response.body.compare(from, 4, "--\r\n") == 0) return parts;
    const std::size_t head_end = response.body.find("\r\n\r\n", from);
    const std::size_t next = response.body.find(delimiter, from);
    if (head_end == std::string::npos || next == std::string::npos) break;
    const std::string fields = response.body.substr(from, head_end + 2 - from);
    const std::size_t range = fields.find("Content-Range: ");
    if (range == std::string::npos) break;
    parts.push_back({fields.substr(range + 15, fields.find("\r\n", range) - range - 15),
                     response.body.substr(head_end + 4, next - head_end - 4)});
    from = next;
  }
  return {};  // not closed
}

// A cache with one blob, at rest or held in flight with this many bytes.
struct Served {
  explicit Served(std::size_t size, bool at_rest, std::uint64_t held = 0) : blob(content(size)) {
    digest = cache.hub().add_blob("library/app", blob);
    path = blob_path("library/app", digest);
    if (at_rest) {
      REQUIRE((get(cache.port(), path).body == blob));
      REQUIRE(cache.wait_idle());
    } else {
      cache.hub().hold(digest, held);
      starter.emplace(cache.port());
      starter->send("GET", path);
      REQUIRE(starter->read_head().status == 200);
    }
  }
  Response range(const std::string& value) { return get(cache.port(), path, {{"Range", value}}); }

  Fixture cache;
  std::string blob;
  oci::Digest digest;
  std::string path;
  std::optional<Client> starter;
};

}  // namespace

TEST_CASE("Proxy: single ranges", "[proxy]") {
  const std::size_t size = GENERATE(std::size_t{5'000}, std::size_t{500'000});
  const bool at_rest = GENERATE(true, false);
  Served served(size, at_rest, 1000);
  const std::string total = std::to_string(size);
  const std::vector<std::tuple<std::string, std::size_t, std::size_t>> cases{
      {"bytes=0-0", 0, 1},
      {"bytes=0-99", 0, 100},
      {"bytes=500-599", 500, 100},
      {"bytes=0-", 0, size},
      {"bytes=1000-", 1000, size - 1000},
      {"bytes=-1", size - 1, 1},
      {"bytes=-1500", size - 1500, 1500},
      {"bytes=-99999999", 0, size},
      {"bytes=4000-99999999", 4000, size - 4000},
      {"bytes=" + std::to_string(size - 1) + "-", size - 1, 1},
  };
  bool released = false;
  for (const auto& [range, first, length] : cases) {
    if (!at_rest && !released && first + length > 1000) {
      served.cache.hub().release(served.digest);
      released = true;
    }
    const Response response = served.range(range);
    INFO(range);
    CHECK(response.status == 206);
    CHECK(response.complete);
    CHECK((response.body == served.blob.substr(first, length)));
    CHECK(response.field("content-range") ==
          "bytes " + std::to_string(first) + "-" + std::to_string(first + length - 1) + "/" + total);
    CHECK(response.field("content-length") == std::to_string(length));
    CHECK(response.field("docker-content-digest") == served.digest.to_string());
  }
  CHECK(served.cache.hub().seen().downloads == 1);
}

TEST_CASE("Proxy: a range without an end waits for what has not arrived", "[proxy]") {
  Served served(2'000'000, false, 100'000);
  Client waiting(served.cache.port());
  waiting.send("GET", served.path, {{"Range", "bytes=1900000-"}});
  Response response = waiting.read_head();
  REQUIRE(response.status == 206);
  CHECK(response.field("content-range") == "bytes 1900000-1999999/2000000");
  // Its wait moves the window: upstream is read up to there although the first client takes nothing.
  served.cache.hub().release(served.digest);
  waiting.read_rest(response);
  CHECK(response.complete);
  CHECK((response.body == served.blob.substr(1'900'000)));
  CHECK(served.cache.hub().seen().ranges.empty());
}

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
  // Upstream lets go, but the fill still goes no further ahead of its reader, who takes nothing, than the window.
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

TEST_CASE("Proxy: a range that is nearly there waits for the fill", "[proxy]") {
  Served served(2'000'000, false, 100'000);
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
  CHECK(cache.hub().seen().open == 0);
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

TEST_CASE("Proxy: many clients that ask for the same short range cost one question", "[proxy]") {
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
  // Another question that all of them must have been put before: a range of its own, seen by upstream.
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return !seen.ranges.empty(); }));
  cache.hub().let_questions();
  for (Client& client : clients) CHECK((client.read_response().body == blob.substr(999'900)));
  CHECK(cache.hub().seen().ranges.size() <= 8);
  CHECK(cache.hub().seen().downloads == 0);
}

TEST_CASE("Proxy: ranges without an end that are cut off are nothing to the fill", "[proxy]") {
  Fixture::Params params;
  params.window_bytes = 1 << 20;
  Fixture cache(params);
  const std::string blob = content(10'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  // As containerd 2.1 fetches: forty pieces, each asked for to the end of the blob and broken off.
  std::string got;
  constexpr std::size_t kPiece = 250'000;
  for (std::size_t at = 0; at < blob.size(); at += kPiece) {
    Client client(cache.port());
    client.send("GET", path, {{"Range", "bytes=" + std::to_string(at) + "-"}});
    const Response response = client.read_head();
    REQUIRE(response.status == 206);
    got += client.read_bytes(kPiece);
    client.close();
  }
  CHECK((got == blob));
  REQUIRE(cache.wait_idle());
  CHECK(cache.hub().seen().downloads == 1);
  CHECK(cache.hub().seen().ranges.empty());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.wait_for_metric("sluice_fill_readers", 0));
}

TEST_CASE("Proxy: ranges that lie outside", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest);
  for (const std::string range : {"bytes=50000-", "bytes=60000-70000", "bytes=500-0", "bytes=-0"}) {
    const Response response = served.range(range);
    INFO(range);
    CHECK(response.status == 416);
    CHECK(response.complete);
    CHECK(response.field("content-range") == "bytes */50000");
    CHECK(error_code(response.body) == "RANGE_INVALID");
  }
}

TEST_CASE("Proxy: what is no range of bytes is ignored", "[proxy]") {
  Served served(50'000, true);
  for (const std::string range : {"items=0-1", "bytes", "bytes=a-b", "bytes=--1", "bytes= "}) {
    INFO(range);
    const Response response = served.range(range);
    CHECK(response.status == 200);
    CHECK((response.body == served.blob));
  }
}

TEST_CASE("Proxy: several ranges make a multipart body", "[proxy]") {
  const std::size_t size = GENERATE(std::size_t{5'000}, std::size_t{500'000});
  Served served(size, true);
  const Response response = served.range("bytes=0-99,200-299,-10");
  REQUIRE(response.status == 206);
  CHECK(response.complete);
  CHECK(response.field("content-type").starts_with("multipart/byteranges; boundary="));
  CHECK(response.field("content-range").empty());
  const std::vector<Part> parts = parse_multipart(response);
  REQUIRE(parts.size() == 3);
  const std::string total = "/" + std::to_string(size);
  CHECK(parts[0].content_range == "bytes 0-99" + total);
  CHECK((parts[0].body == served.blob.substr(0, 100)));
  CHECK(parts[1].content_range == "bytes 200-299" + total);
  CHECK((parts[1].body == served.blob.substr(200, 100)));
  CHECK((parts[2].body == served.blob.substr(size - 10)));

  // One of them has no byte, or they are one: a plain 206.
  CHECK((served.range("bytes=0-99,9999999-").body == served.blob.substr(0, 100)));
  CHECK((served.range("bytes=0-99,50-149").body == served.blob.substr(0, 150)));
}

TEST_CASE("Proxy: several ranges of a blob in flight", "[proxy]") {
  Served served(500'000, false, 100'000);
  // In the order asked, of what is there and of what is still to come.
  Client client(served.cache.port());
  client.send("GET", served.path, {{"Range", "bytes=1251-2042,2051-5650,200000-200009,0-9"}});
  Response response = client.read_head();
  REQUIRE(response.status == 206);
  served.cache.hub().release(served.digest);
  client.read_rest(response);
  CHECK(response.complete);
  const std::vector<Part> parts = parse_multipart(response);
  REQUIRE(parts.size() == 4);
  CHECK((parts[0].body == served.blob.substr(1251, 792)));
  CHECK((parts[1].body == served.blob.substr(2051, 3600)));
  CHECK((parts[2].body == served.blob.substr(200'000, 10)));
  CHECK(parts[3].content_range == "bytes 0-9/500000");
  CHECK((parts[3].body == served.blob.substr(0, 10)));
  CHECK(served.cache.hub().seen().downloads == 1);
  CHECK(served.cache.hub().seen().ranges.empty());
}

TEST_CASE("Proxy: more ranges than anybody needs get the whole", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 50'000);
  std::string many = "bytes=0-0";
  for (int i = 1; i < 20; ++i) many += "," + std::to_string(i * 10) + "-" + std::to_string(i * 10);
  for (const std::string& range : {many, std::string("bytes=0-5,9-3")}) {
    const Response response = served.range(range);
    CHECK(response.status == 200);
    CHECK((response.body == served.blob));
  }
  // Overlapping ones are one.
  const Response response = served.range("bytes=0-,0-,0-,1-,2-");
  CHECK(response.status == 206);
  CHECK(response.field("content-range") == "bytes 0-49999/50000");
}

TEST_CASE("Proxy: If-Range decides whether Range counts", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 50'000);
  const std::string etag = '"' + served.digest.to_string() + '"';
  const auto ask = [&](const std::string& if_range) {
    return get(served.cache.port(), served.path, {{"Range", "bytes=1-2"}, {"If-Range", if_range}}).status;
  };
  CHECK(ask(etag) == 206);
  CHECK(ask("\"other\"") == 200);
  CHECK(ask("W/" + etag) == 200);
  CHECK(ask("Sat, 29 Oct 1994 19:43:31 GMT") == 200);
}

TEST_CASE("Proxy: a client that has the blob gets 304", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 100);
  const std::string etag = '"' + served.digest.to_string() + '"';
  for (const std::string& value : {etag, "\"a\", " + etag, std::string("*")}) {
    for (const std::string method : {"GET", "HEAD"}) {
      const Response response = fetch(served.cache.port(), method, served.path, {{"If-None-Match", value}});
      CHECK(response.status == 304);
      CHECK(response.body.empty());
      CHECK(response.field("etag") == etag);
    }
  }
  // It stands above Range (RFC 9110 section 13.2.2).
  CHECK(get(served.cache.port(), served.path, {{"If-None-Match", etag}, {"Range", "bytes=0-1"}}).status == 304);
  CHECK(head(served.cache.port(), served.path, {{"If-None-Match", "\"other\""}}).status == 200);
}

TEST_CASE("Proxy: the head of a blob", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 50'000);
  for (const Fields& fields : {Fields{}, Fields{{"Range", "bytes=0-1"}}}) {
    const Response response = head(served.cache.port(), served.path, fields);
    CHECK(response.status == 200);
    CHECK(response.field("content-length") == "50000");
    CHECK(response.field("content-type") == "application/octet-stream");
    CHECK(response.field("docker-content-digest") == served.digest.to_string());
    CHECK(response.field("etag") == '"' + served.digest.to_string() + '"');
    CHECK(response.field("accept-ranges") == "bytes");
    CHECK_FALSE(response.field("date").empty());
  }
  CHECK(served.cache.hub().seen().blob_heads == 0);
}

TEST_CASE("Proxy: several requests on one connection", "[proxy]") {
  Served served(50'000, true);
  Client client(served.cache.port());
  client.send("HEAD", served.path);
  client.send("GET", served.path, {{"Range", "bytes=5-9"}});
  client.send("GET", served.path);
  CHECK(client.read_response(true).status == 200);
  CHECK((client.read_response().body == served.blob.substr(5, 5)));
  CHECK((client.read_response().body == served.blob));
}

// Ranges and conditionals, at rest and in flight.
#include <atomic>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

#include "served.hpp"

using namespace sluice;
using namespace sluice::test;

namespace {

// The disk takes so many writes and no more.
void refuse_writes(Fixture& cache, int taken) {
  const auto left = std::make_shared<std::atomic<int>>(taken);
  cache.filesystem().set_rule([left](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    return operation == runtime::FaultyFilesystem::Operation::write_at && left->fetch_sub(1) <= 0 ? ENOSPC : 0;
  });
}

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

  // One of them has no byte: a plain 206.
  CHECK((served.range("bytes=0-99,9999999-").body == served.blob.substr(0, 100)));
  // What overlaps or touches stays apart.
  const std::vector<Part> apart = parse_multipart(served.range("bytes=50-149,0-99,100-199"));
  REQUIRE(apart.size() == 3);
  CHECK((apart[0].body == served.blob.substr(50, 100)));
  CHECK((apart[1].body == served.blob.substr(0, 100)));
  CHECK((apart[2].body == served.blob.substr(100, 100)));
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

TEST_CASE("Proxy: 1,024 ranges get as many parts in their order, and more get 400", "[proxy]") {
  enum class Where { at_rest, in_flight, cold };
  const Where where = GENERATE(Where::at_rest, Where::in_flight, Where::cold);
  // Near each other, so that a cold blob is asked of upstream range by range; or too far apart for that.
  const std::size_t apart = GENERATE(std::size_t{300}, std::size_t{30'000});
  const std::string blob = content(apart * 1100);
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  std::optional<Client> starter;
  if (where == Where::at_rest) {
    REQUIRE((get(cache.port(), path).body == blob));
    REQUIRE(cache.wait_idle());
  } else if (where == Where::in_flight) {
    cache.hub().hold(digest, 1000);
    starter.emplace(cache.port());
    starter->send("GET", path);
    REQUIRE(starter->read_head().status == 200);
  }
  // As podman asks, ascending; but for the last ones, which go back, overlap, touch and have no end of their own.
  std::vector<std::size_t> starts;
  std::string header = "bytes=";
  for (std::size_t i = 0; i < 1020; ++i) {
    starts.push_back(i * apart);
    header += std::to_string(starts.back()) + "-" + std::to_string(starts.back() + 99) + ",";
  }
  header += "50-149,50-149,150-249,-100";
  starts.insert(starts.end(), {50, 50, 150, blob.size() - 100});
  Client client(cache.port());
  client.send("GET", path, {{"Range", header}});
  if (where == Where::in_flight) cache.hub().release(digest);
  const Response response = client.read_response();
  REQUIRE(response.status == 206);
  CHECK(response.complete);
  const std::vector<Part> parts = parse_multipart(response);
  REQUIRE(parts.size() == 1024);
  bool right = true;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    right = right && parts[i].body == blob.substr(starts[i], 100) &&
            parts[i].content_range == "bytes " + std::to_string(starts[i]) + "-" + std::to_string(starts[i] + 99) +
                                          "/" + std::to_string(blob.size());
  }
  CHECK(right);
  // Upstream is not asked a thousand times.
  CHECK(cache.hub().seen().ranges.size() <= 64);
  CHECK(get(cache.port(), path, {{"Range", header + ",7-7"}}).status == 400);
  if (starter) starter->close();
}

TEST_CASE("Proxy: a list of ranges that cannot be is ignored", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 50'000);
  const Response response = served.range("bytes=0-5,9-3");
  CHECK(response.status == 200);
  CHECK((response.body == served.blob));
}

TEST_CASE("Proxy: a single range gets a 206 where upstream does not tell the size", "[proxy]") {
  Fixture cache;
  const std::string blob = content(500'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  const std::string path = blob_path("library/app", digest);
  cache.hub().plan(digest, {.hide_size = true});
  cache.hub().plan_range(digest, {.ignore_range = true});
  const auto [range, first, length] =
      GENERATE(std::tuple<std::string, std::size_t, std::size_t>{"bytes=0-", 0, 500'000},
               std::tuple<std::string, std::size_t, std::size_t>{"bytes=7-16", 7, 10},
               std::tuple<std::string, std::size_t, std::size_t>{"bytes=-5", 499'995, 5});
  const Response response = get(cache.port(), path, {{"Range", range}});
  CHECK(response.status == 206);
  CHECK(response.complete);
  CHECK((response.body == blob.substr(first, length)));
  const std::string part = "bytes " + std::to_string(first) + "-" + std::to_string(first + length - 1);
  // With both ends said, nothing has to be waited for but these bytes; the size may be unknown then.
  const bool early = range == "bytes=7-16" && response.field("content-range") == part + "/*";
  CHECK((early || response.field("content-range") == part + "/500000"));
}

TEST_CASE("Proxy: of a blob of untold size that cannot be stored a short range is a 206, any other the whole",
          "[proxy]") {
  struct Asked {
    std::string range;
    std::string told = {};  // Content-Range; empty: the whole, since nobody can say where the range ends, or it is long
    std::size_t first = 0;
    std::size_t length = 2'000'000;
  };
  Fixture cache;
  const std::string blob = content(2'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hide_sizes(true);
  refuse_writes(cache, GENERATE(0, 3));
  const auto asked =
      GENERATE(values<Asked>({{"bytes=0-"},
                              {"bytes=7-"},
                              {"bytes=-5"},
                              {"bytes=0-1,5-6"},
                              {"bytes=7-1500000"},
                              {"bytes=7-16", "bytes 7-16/*", 7, 10},
                              {"bytes=100000-220000", "bytes 100000-220000/*", 100'000, 120'001},
                              {"bytes=1000000-1000099", "bytes 1000000-1000099/*", 1'000'000, 100},
                              {"bytes=1999990-2000100", "bytes 1999990-1999999/2000000", 1'999'990, 10}}));
  CAPTURE(asked.range);
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", asked.range}});
  CHECK(response.status == (asked.told.empty() ? 200 : 206));
  CHECK(response.complete);
  CHECK(response.field("content-range") == asked.told);
  CHECK((response.body == blob.substr(asked.first, asked.length)));
}

TEST_CASE("Proxy: a range behind the end of a blob of untold size that cannot be stored is a 416", "[proxy]") {
  Fixture cache;
  const std::string blob = content(500'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hide_sizes(true);
  refuse_writes(cache, 0);
  const Response response = get(cache.port(), blob_path("library/app", digest), {{"Range", "bytes=700000-700010"}});
  CHECK(response.status == 416);
  CHECK(response.field("content-range") == "bytes */500000");
}

TEST_CASE("Proxy: If-Range decides whether Range counts", "[proxy]") {
  const bool at_rest = GENERATE(true, false);
  Served served(50'000, at_rest, 50'000);
  const std::string etag = '"' + served.digest.to_string() + '"';
  const auto ask = [&](const std::string& if_range) {
    return get(served.cache.port(), served.path, {{"Range", "bytes=1-2"}, {"If-Range", if_range}}).status;
  };
  CHECK(ask(etag) == 206);
  CHECK(ask(served.digest.to_string()) == 206);
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

TEST_CASE("Proxy: a client that has a cold blob gets 304 without a download", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1'000'000));
  const std::string path = blob_path("library/app", digest);
  const std::string etag = '"' + digest.to_string() + '"';
  for (const std::string& value : {etag, std::string("*")}) {
    const Response response = get(cache.port(), path, {{"If-None-Match", value}});
    CHECK(response.status == 304);
    CHECK(response.field("etag") == etag);
    CHECK(response.field("docker-content-digest") == digest.to_string());
  }
  CHECK(get(cache.port(), path, {{"If-None-Match", etag}, {"Range", "bytes=0-1"}}).status == 304);
  // Upstream's word that the repository has it is asked for, once.
  CHECK(cache.hub().seen().blob_heads == 1);
  CHECK(get(cache.port(), blob_path("library/other", digest), {{"If-None-Match", etag}}).status == 404);
  CHECK(cache.hub().seen().downloads == 0);
  CHECK(cache.hub().seen().ranges.empty());
  // Another tag is no condition that holds.
  CHECK(get(cache.port(), path, {{"If-None-Match", "\"other\""}, {"Range", "bytes=0-1"}}).status == 206);
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

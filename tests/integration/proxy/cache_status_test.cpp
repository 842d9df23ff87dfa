// Cache-Status (RFC 9211): what an answer says of how the cache came by it.
#include <chrono>
#include <string>

#include <catch2/catch.hpp>

#include "served.hpp"

using namespace sluice;
using namespace sluice::test;

TEST_CASE("Cache-Status: a blob that comes, is on its way, and is here", "[proxy]") {
  // Upstream holds the first client's download back.
  Served served(4'000'000, false, 100'000);
  Client joining(served.cache.port());
  joining.send("GET", served.path);
  Response joined = joining.read_head();
  CHECK(joined.field("cache-status") == "sluice; fwd=miss; collapsed");
  CHECK(served.range("bytes=3900000-3900009").field("cache-status") == "sluice; fwd=miss; detail=range");

  served.cache.hub().release(served.digest);
  joining.read_rest(joined);
  CHECK((joined.body == served.blob));
  REQUIRE(served.cache.wait_idle());
  CHECK(get(served.cache.port(), served.path).field("cache-status") == "sluice; hit");
  CHECK(head(served.cache.port(), served.path).field("cache-status") == "sluice; hit");
  CHECK(served.range("bytes=0-9").field("cache-status") == "sluice; hit");
}

TEST_CASE("Cache-Status: a blob that nobody has asked for", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1'000));
  CHECK(get(cache.port(), blob_path("library/app", digest)).field("cache-status") == "sluice; fwd=miss");
}

TEST_CASE("Cache-Status: HEAD of what is stored, and upstream is asked who may have it", "[proxy]") {
  Fixture cache({.descriptor_ttl = std::chrono::hours(1)});
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1'000));
  const std::string path = blob_path("library/app", digest);
  // Nothing is stored yet.
  CHECK(head(cache.port(), path).field("cache-status") == "sluice; fwd=miss");
  CHECK(get(cache.port(), path).status == 200);
  REQUIRE(cache.wait_idle());
  CHECK(head(cache.port(), path).field("cache-status") == "sluice; hit");
  cache.clock().advance(std::chrono::hours(1));
  CHECK(head(cache.port(), path).field("cache-status") == "sluice; fwd=stale; detail=access");
  CHECK(head(cache.port(), path).field("cache-status") == "sluice; hit");
}

TEST_CASE("Cache-Status: manifests", "[proxy]") {
  Fixture cache({.descriptor_ttl = std::chrono::hours(1)});
  const std::string manifest = image_manifest(1, oci::media_type::kOciManifest);
  const oci::Digest digest =
      cache.hub().add_manifest("library/app", "latest", manifest, std::string(oci::media_type::kOciManifest));
  const std::string path = manifest_path("library/app", digest);
  CHECK(get(cache.port(), path).field("cache-status") == "sluice; fwd=miss");
  CHECK(get(cache.port(), path).field("cache-status") == "sluice; hit");
  cache.clock().advance(std::chrono::hours(1));
  cache.hub().fail_all(Error{Errc::upstream_failed, "down"});
  CHECK(get(cache.port(), path).field("cache-status") == "sluice; hit; detail=stale");
}

TEST_CASE("Cache-Status: errors say nothing", "[proxy]") {
  Fixture cache;
  const Response unknown =
      get(cache.port(), blob_path("library/app", oci::digest_of(oci::Algorithm::sha256, "nothing")));
  CHECK(unknown.status == 404);
  CHECK(unknown.field("cache-status").empty());
  CHECK(get(cache.port(), "/v2/").field("cache-status").empty());
}

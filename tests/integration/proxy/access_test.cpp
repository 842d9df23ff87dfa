// Who may see what: upstream's word on one repository says nothing about another.
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);

struct Refusal {
  Errc code;
  unsigned status;
  const char* oci_code;
};

}  // namespace

TEST_CASE("Proxy: HEAD of a blob downloads nothing", "[proxy]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(12'345));
  const Response response = head(cache.port(), blob_path("library/app", digest));
  CHECK(response.status == 200);
  CHECK(response.field("content-length") == "12345");
  CHECK(cache.hub().seen().downloads == 0);
  CHECK(cache.hub().seen().blob_heads == 1);
  // And is remembered.
  CHECK(head(cache.port(), blob_path("library/app", digest)).status == 200);
  CHECK(cache.hub().seen().blob_heads == 1);
  CHECK(cache.counted_blobs("miss", 1));
  CHECK(cache.counted_blobs("hit", 1));
}

namespace {

// An image whose manifest says that the layer has `claimed` bytes; it has 5000. Pulled without its blobs.
struct Named {
  explicit Named(std::uint64_t claimed) {
    digest = cache.hub().add_blob("library/app", layer);
    const oci::Digest config = cache.hub().add_blob("library/app", content(100, 2));
    const std::string type(oci::media_type::kOciManifest);
    cache.hub().add_manifest("library/app", "latest", image_manifest(config, 100, digest, claimed, type), type);
    REQUIRE(get(cache.port(), manifest_path("library/app", "latest")).status == 200);
  }
  [[nodiscard]] std::string path() const { return blob_path("library/app", digest); }

  Fixture cache;
  const std::string layer = content(5000, 1);
  oci::Digest digest;
};

}  // namespace

TEST_CASE("Proxy: the size of a blob that a manifest has named is upstream's, by one HEAD", "[proxy]") {
  Named named(GENERATE(5000, 4000, 6000));
  for (int round = 0; round < 2; ++round) {
    CHECK(head(named.cache.port(), named.path()).field("content-length") == "5000");
    CHECK(named.cache.hub().seen().blob_heads == 1);
  }
  CHECK(named.cache.hub().seen().downloads == 0);
}

TEST_CASE("Proxy: a manifest's wrong size decides no range", "[proxy]") {
  Named named(GENERATE(4000, 6000));
  const auto ask = [&named](const std::string& range) {
    return get(named.cache.port(), named.path(), {{"Range", range}});
  };
  SECTION("from the end") {
    const Response response = ask("bytes=-10");
    CHECK(response.status == 206);
    CHECK(response.field("content-range") == "bytes 4990-4999/5000");
    CHECK(response.body == named.layer.substr(4990));
  }
  SECTION("within") {
    const Response response = ask("bytes=4500-4509");
    CHECK(response.field("content-range") == "bytes 4500-4509/5000");
    CHECK(response.body == named.layer.substr(4500, 10));
  }
  SECTION("beyond") {
    const Response response = ask("bytes=5500-5600");
    CHECK(response.status == 416);
    CHECK(response.field("content-range") == "bytes */5000");
  }
  CHECK(named.cache.hub().seen().blob_heads == 1);
}

TEST_CASE("Proxy: a manifest's size is no answer, whether upstream is out or does not tell it", "[proxy]") {
  Named named(6000);
  for (const Errc code : {Errc::upstream_unreachable, Errc::upstream_protocol}) {
    named.cache.hub().fail_all(Error{code, "no answer that is of use"});
    CHECK(head(named.cache.port(), named.path()).status == 502);
  }
  named.cache.hub().fail_all({});
  // Upstream has it, as a GET shows, and does not tell how long it is: a HEAD says no more.
  named.cache.hub().hide_sizes(true);
  const oci::Digest unnamed = named.cache.hub().add_blob("library/app", content(3000, 7));
  for (const std::string& path : {named.path(), blob_path("library/app", unnamed)}) {
    const Response untold = head(named.cache.port(), path);
    CHECK(untold.status == 200);
    CHECK(untold.field("content-length").empty());
  }
  named.cache.hub().hide_sizes(false);
  CHECK(get(named.cache.port(), named.path()).body == named.layer);
  REQUIRE(named.cache.wait_idle());
  named.cache.hub().fail_all(Error{Errc::upstream_unreachable, "down"});
  CHECK(head(named.cache.port(), named.path()).field("content-length") == "5000");
}

TEST_CASE("Proxy: an unknown blob is remembered as unknown for a time", "[proxy]") {
  Fixture cache;
  const std::string blob = content(1000);
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, blob);
  const std::string method = GENERATE("GET", "HEAD");
  for (int round = 0; round < 3; ++round) {
    const Response response = fetch(cache.port(), method, blob_path("library/app", digest));
    CHECK(response.status == 404);
    if (method == "GET") CHECK(error_code(response.body) == "BLOB_UNKNOWN");
  }
  CHECK(cache.hub().seen().all() == 1);
  cache.hub().add_blob("library/app", blob);
  CHECK(fetch(cache.port(), method, blob_path("library/app", digest)).status == 404);
  cache.clock().advance(5s);
  CHECK(fetch(cache.port(), method, blob_path("library/app", digest)).status == 200);
  CHECK(cache.hub().seen().all() == 2);
}

TEST_CASE("Proxy: a cached blob is given to a repository only when upstream says that it has it", "[proxy]") {
  const Refusal refusal =
      GENERATE(Refusal{Errc::blob_unknown, 404, "BLOB_UNKNOWN"}, Refusal{Errc::name_unknown, 404, "NAME_UNKNOWN"},
               Refusal{Errc::unauthorized, 401, "UNAUTHORIZED"}, Refusal{Errc::denied, 403, "DENIED"});
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("private/app", blob);
  cache.hub().refuse("other/app", Error{refusal.code, "upstream says no"});

  SECTION("at rest") {
    REQUIRE((get(cache.port(), blob_path("private/app", digest)).body == blob));
    REQUIRE(cache.wait_idle());
    const Response response = get(cache.port(), blob_path("other/app", digest));
    CHECK(response.status == refusal.status);
    CHECK(error_code(response.body) == refusal.oci_code);
    CHECK(head(cache.port(), blob_path("other/app", digest)).status == refusal.status);
  }
  SECTION("in flight") {
    cache.hub().hold(digest, 1000);
    Client owner(cache.port());
    owner.send("GET", blob_path("private/app", digest));
    Response owned = owner.read_head();
    REQUIRE(owned.status == 200);
    const Response response = get(cache.port(), blob_path("other/app", digest));
    CHECK(response.status == refusal.status);
    CHECK(error_code(response.body) == refusal.oci_code);
    cache.hub().release(digest);
    owner.read_rest(owned);
    CHECK((owned.body == blob));
  }
  SECTION("and the refused one asked first") {
    cache.hub().hold_questions();
    Response refused;
    std::thread first([&] { refused = get(cache.port(), blob_path("other/app", digest)); });
    const bool started = cache.hub().wait_until([](const auto& seen) { return seen.downloads == 1; });
    Response served;
    std::thread second([&] { served = get(cache.port(), blob_path("private/app", digest)); });
    const bool joined = cache.wait_for_metric("sluice_fill_readers", 2);
    cache.hub().let_questions();
    first.join();
    second.join();
    CHECK(started);
    CHECK(joined);
    CHECK(refused.status == refusal.status);
    CHECK(served.status == 200);
    CHECK((served.body == blob));
  }
}

TEST_CASE("Proxy: an upstream that is down fails nobody who asks another one", "[proxy]") {
  Fixture cache;
  const std::string blob = content(100'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.quay().add_blob("team/app", blob);
  cache.quay().fail_all(Error{Errc::upstream_unreachable, "quay is down"});
  cache.quay().hold_questions();
  Response failed;
  std::thread first([&] { failed = get(cache.port(), blob_path("quay.io/team/app", digest)); });
  const bool started = cache.quay().wait_until([](const auto& seen) { return seen.downloads == 1; });
  const Response served = get(cache.port(), blob_path("library/app", digest));
  cache.quay().let_questions();
  first.join();
  CHECK(started);
  CHECK(failed.status == 502);
  CHECK(served.status == 200);
  CHECK((served.body == blob));
}

TEST_CASE("Proxy: what a repository may see survives a restart, and needs no upstream", "[proxy]") {
  TempDirectory directory;
  const std::string blob = content(300'000);
  const std::string manifest = image_manifest(1, oci::media_type::kOciManifest);
  oci::Digest digest;
  oci::Digest manifest_digest;
  {
    Fixture cache({.data = directory.path() / "data"});
    digest = cache.hub().add_blob("library/app", blob);
    manifest_digest =
        cache.hub().add_manifest("library/app", "latest", manifest, std::string(oci::media_type::kOciManifest));
    REQUIRE((get(cache.port(), blob_path("library/app", digest)).body == blob));
    REQUIRE(get(cache.port(), manifest_path("library/app", "latest")).body == manifest);
    REQUIRE(cache.wait_idle());
  }
  const Errc outage =
      GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed, Errc::throttled);
  Fixture cache({.data = directory.path() / "data"});
  cache.hub().fail_all(Error{outage, "upstream is down"});
  cache.clock().advance(24h);
  const Response served = get(cache.port(), blob_path("library/app", digest));
  CHECK(served.status == 200);
  CHECK((served.body == blob));
  CHECK(get(cache.port(), manifest_path("library/app", manifest_digest)).body == manifest);
  const Response stale = get(cache.port(), manifest_path("library/app", "latest"));
  CHECK(stale.body == manifest);
  CHECK(stale.field("content-type") == oci::media_type::kOciManifest);

  const Response refused = get(cache.port(), blob_path("library/other", digest));
  const unsigned status = outage == Errc::throttled ? 503 : outage == Errc::upstream_timeout ? 504 : 502;
  CHECK(refused.status == status);
  CHECK(error_code(refused.body) == (outage == Errc::throttled ? "TOOMANYREQUESTS" : "UNAVAILABLE"));
  CHECK(refused.field("retry-after") == "5");
  CHECK(head(cache.port(), blob_path("library/other", digest)).status == status);
}

TEST_CASE("Proxy: an outage is 502 or 504, also where the bytes are here", "[proxy]") {
  struct Case {
    Errc outage;
    unsigned status;
  };
  const Case expected = GENERATE(Case{Errc::upstream_unreachable, 502}, Case{Errc::upstream_failed, 502},
                                 Case{Errc::upstream_timeout, 504}, Case{Errc::overloaded, 503});
  Fixture cache;
  const oci::Digest blob = cache.hub().add_blob("library/app", content(1000));
  const oci::Digest manifest =
      cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  REQUIRE(get(cache.port(), blob_path("library/app", blob)).status == 200);
  REQUIRE(get(cache.port(), manifest_path("library/app", manifest)).status == 200);
  REQUIRE(cache.wait_idle());
  cache.hub().fail_all(Error{expected.outage, "upstream is out", 9s});
  for (const std::string& path : {blob_path("library/other", blob), manifest_path("library/other", manifest)}) {
    const Response cached = get(cache.port(), path);
    CHECK(cached.status == expected.status);
    CHECK(error_code(cached.body) == "UNAVAILABLE");
    CHECK(cached.field("retry-after") == "9");
    CHECK(cached.body.find("cached") == std::string::npos);
    CHECK(head(cache.port(), path).status == expected.status);
  }
  const oci::Digest none = oci::digest_of(oci::Algorithm::sha256, "none");
  for (const std::string& path : {blob_path("library/app", none), manifest_path("library/app", none)}) {
    CHECK(get(cache.port(), path).status == expected.status);
    CHECK(head(cache.port(), path).status == expected.status);
    CHECK(get(cache.port(), path).field("retry-after") == "9");
  }
}

TEST_CASE("Proxy: a manifest's digest at the blob end-point, and a blob's at the manifests'", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, oci::media_type::kOciManifest);
  const oci::Digest manifest_digest =
      cache.hub().add_manifest("library/app", "latest", manifest, std::string(oci::media_type::kOciManifest));
  const std::string blob = content(5000);
  const oci::Digest blob_digest = cache.hub().add_blob("library/app", blob);
  REQUIRE(get(cache.port(), manifest_path("library/app", "latest")).status == 200);
  REQUIRE(get(cache.port(), blob_path("library/app", blob_digest)).status == 200);
  REQUIRE(cache.wait_idle());

  // Upstream decides; this one does not give its manifests out as blobs.
  CHECK(get(cache.port(), blob_path("library/app", manifest_digest)).status == 404);
  const Response as_manifest = get(cache.port(), manifest_path("library/app", blob_digest));
  CHECK(as_manifest.status == 404);
  CHECK(error_code(as_manifest.body) == "MANIFEST_UNKNOWN");
  CHECK(head(cache.port(), manifest_path("library/app", blob_digest)).status == 404);
  // And neither has harmed the other.
  CHECK(get(cache.port(), manifest_path("library/app", manifest_digest)).body == manifest);
  CHECK((get(cache.port(), blob_path("library/app", blob_digest)).body == blob));

  // One that does.
  cache.clock().advance(5s);
  cache.hub().add_blob("library/app", manifest);
  const Response as_blob = get(cache.port(), blob_path("library/app", manifest_digest));
  CHECK(as_blob.status == 200);
  CHECK(as_blob.body == manifest);
  CHECK(as_blob.field("content-type") == oci::media_type::kOciManifest);
  REQUIRE(cache.wait_idle());
  const Response still = get(cache.port(), manifest_path("library/app", manifest_digest));
  CHECK(still.body == manifest);
  CHECK(still.field("content-type") == oci::media_type::kOciManifest);
}

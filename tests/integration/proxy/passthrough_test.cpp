// access: passthrough. Upstream decides for each client, also about what is cached.
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const Fields kAlice{{"Authorization", "Bearer alice-secret"}};
const Fields kBob{{"Authorization", "Bearer bob-secret"}};

// One private image at quay.io, which alice may pull.
struct Private {
  explicit Private(std::chrono::milliseconds grant_ttl = 60s)
      : cache({.quay_passthrough = access::Passthrough{grant_ttl}}) {
    layer = cache.quay().add_blob("team/app", bytes);
    manifest = image_manifest(layer, 100, layer, bytes.size(), kOciManifest);
    digest = cache.quay().add_manifest("team/app", "v1", manifest, kOciManifest);
    cache.quay().allow("Bearer alice-secret", "team/app");
  }

  [[nodiscard]] std::string by_tag() const { return manifest_path("quay.io/team/app", "v1"); }
  [[nodiscard]] std::string by_digest() const { return manifest_path("quay.io/team/app", digest); }
  [[nodiscard]] std::string blob() const { return blob_path("quay.io/team/app", layer); }
  [[nodiscard]] std::vector<std::string> all() const {
    return {by_tag(), by_digest(), blob(), "/v2/quay.io/team/app/tags/list",
            "/v2/quay.io/team/app/referrers/" + digest.to_string()};
  }
  // Everything is stored, checked by alice.
  void warm() {
    REQUIRE(get(cache.port(), by_tag(), kAlice).body == manifest);
    REQUIRE(get(cache.port(), blob(), kAlice).body == bytes);
    REQUIRE(get(cache.port(), "/v2/quay.io/team/app/tags/list", kAlice).status == 200);
    REQUIRE(cache.wait_idle());
  }

  std::string bytes = content(300'000);
  Fixture cache;
  oci::Digest layer = oci::digest_of(oci::Algorithm::sha256, "");
  oci::Digest digest = layer;
  std::string manifest;
};

}  // namespace

TEST_CASE("Passthrough: upstream's challenge, a login, a pull", "[proxy]") {
  Private image;
  const Response challenged = get(image.cache.port(), image.by_tag());
  CHECK(challenged.status == 401);
  CHECK(error_code(challenged.body) == "UNAUTHORIZED");
  CHECK(challenged.field("www-authenticate") ==
        R"(Bearer realm="https://auth.test/token",service="registry.test",scope="repository:team/app:pull")");
  const Response pulled = get(image.cache.port(), image.by_tag(), kAlice);
  CHECK(pulled.status == 200);
  CHECK(pulled.body == image.manifest);
  CHECK(get(image.cache.port(), image.blob(), kAlice).body == image.bytes);
  // All that upstream was asked was asked with the client's own.
  for (const std::string& behalf : image.cache.quay().seen().behalves) {
    CHECK((behalf.empty() || behalf == "Bearer alice-secret"));
  }
}

TEST_CASE("Passthrough: an upstream that tells no sizes lets in whom it gives the blob", "[proxy]") {
  Private image;
  image.cache.quay().hide_sizes(true);
  CHECK(get(image.cache.port(), image.blob(), kAlice).body == image.bytes);
  CHECK(get(image.cache.port(), image.blob(), kBob).status >= 400);
}

TEST_CASE("Passthrough: what is cached is nobody's who was not checked", "[proxy]") {
  Private image;
  image.warm();
  for (const std::string& path : image.all()) {
    for (const std::string method : {"GET", "HEAD"}) {
      INFO(method << ' ' << path);
      CHECK(fetch(image.cache.port(), method, path).status == 401);
      CHECK(fetch(image.cache.port(), method, path).field("www-authenticate").starts_with("Bearer realm="));
      CHECK(fetch(image.cache.port(), method, path, kBob).status == 403);
      CHECK(fetch(image.cache.port(), method, path, {{"Authorization", ""}}).status == 401);
      CHECK(fetch(image.cache.port(), method, path, {{"Authorization", "bearer alice-secret"}}).status == 403);
      CHECK(fetch(image.cache.port(), method, path, {{"Authorization", "Bearer alice-secret "}}).status == 200);
      CHECK(fetch(image.cache.port(), method, path, kAlice).status == 200);
    }
  }
  // Conditionals and ranges are no way around.
  const std::string etag = '"' + image.layer.to_string() + '"';
  CHECK(get(image.cache.port(), image.blob(), {{"If-None-Match", etag}}).status == 401);
  CHECK(get(image.cache.port(), image.blob(), {{"Range", "bytes=0-9"}}).status == 401);
  // Two logins are none, whoever comes first.
  for (const auto& both : {Fields{kAlice[0], kBob[0]}, Fields{kBob[0], kAlice[0]}}) {
    CHECK(get(image.cache.port(), image.blob(), both).status == 403);
  }
}

TEST_CASE("Passthrough: a yes is for one repository, one login, and a time", "[proxy]") {
  Private image;
  image.warm();
  const std::size_t asked = image.cache.quay().seen().all();
  CHECK(get(image.cache.port(), image.by_tag(), kAlice).status == 200);
  CHECK(get(image.cache.port(), image.blob(), kAlice).status == 200);
  CHECK(image.cache.quay().seen().all() == asked);

  // Another repository with the same blob: alice may not, though the blob is here.
  image.cache.quay().add_blob("team/secret", image.bytes);
  CHECK(get(image.cache.port(), blob_path("quay.io/team/secret", image.layer), kAlice).status == 403);
  // And one that does not have it, where she may.
  image.cache.quay().allow("Bearer alice-secret", "team/other");
  CHECK(get(image.cache.port(), blob_path("quay.io/team/other", image.layer), kAlice).status == 404);

  // Her right is taken away. It shows when the time is over.
  image.cache.quay().disallow("Bearer alice-secret", "team/app");
  image.cache.clock().advance(59s);
  CHECK(get(image.cache.port(), image.blob(), kAlice).status == 200);
  image.cache.clock().advance(2s);
  CHECK(get(image.cache.port(), image.blob(), kAlice).status == 403);
  CHECK(get(image.cache.port(), image.by_tag(), kAlice).status == 403);
}

TEST_CASE("Passthrough: without a time each request is checked", "[proxy]") {
  Private image(0ms);
  image.warm();
  image.cache.quay().disallow("Bearer alice-secret", "team/app");
  CHECK(get(image.cache.port(), image.blob(), kAlice).status == 403);
}

TEST_CASE("Passthrough: with upstream out only who was checked lately is served", "[proxy]") {
  Private image;
  image.warm();
  const Errc outage = GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed);
  image.cache.quay().fail_all(Error{outage, "out"});
  CHECK(get(image.cache.port(), image.blob(), kAlice).body == image.bytes);
  CHECK(get(image.cache.port(), image.by_tag(), kAlice).body == image.manifest);
  for (const Fields& other : {Fields{}, kBob}) {
    const Response closed = get(image.cache.port(), image.blob(), other);
    CHECK(closed.status == 503);
    CHECK(error_code(closed.body) == "UNAVAILABLE");
    CHECK_FALSE(closed.field("retry-after").empty());
    CHECK(closed.field("www-authenticate").empty());
  }
  image.cache.clock().advance(61s);
  CHECK(get(image.cache.port(), image.blob(), kAlice).status == 503);
  CHECK(get(image.cache.port(), image.by_tag(), kAlice).status == 503);
  image.cache.quay().fail_all(std::nullopt);
  CHECK(get(image.cache.port(), image.blob(), kAlice).body == image.bytes);
}

TEST_CASE("Passthrough: 429 to the check is passed on as such", "[proxy]") {
  Private image;
  image.cache.quay().fail_all(Error{Errc::throttled, "slow down", 7s});
  const Response response = get(image.cache.port(), image.blob(), kAlice);
  CHECK(response.status == 503);
  CHECK(error_code(response.body) == "TOOMANYREQUESTS");
  CHECK(response.field("retry-after") == "7");
}

TEST_CASE("Passthrough: a client without rights learns nothing and spoils nothing", "[proxy]") {
  Private image;
  // Some registries hide what is private behind a 404. That is for this client alone.
  image.cache.quay().refuse("team/app", Error{Errc::blob_unknown, "404"});
  image.cache.quay().allow("Bearer bob-secret", "team/app");
  CHECK(get(image.cache.port(), image.blob(), kBob).status == 404);
  image.cache.quay().refuse("team/app", std::nullopt);
  CHECK(get(image.cache.port(), image.blob(), kAlice).body == image.bytes);
}

TEST_CASE("Passthrough: those who join a download are checked themselves", "[proxy]") {
  Private image;
  REQUIRE(get(image.cache.port(), image.by_tag(), kAlice).status == 200);
  image.cache.quay().allow("Bearer carol-secret", "team/app");
  image.cache.quay().hold(image.layer, 100'000);
  Client alice(image.cache.port());
  alice.send("GET", image.blob(), kAlice);
  Response first = alice.read_head();
  REQUIRE(first.status == 200);
  CHECK(get(image.cache.port(), image.blob()).status == 401);
  CHECK(get(image.cache.port(), image.blob(), kBob).status == 403);
  Client carol(image.cache.port());
  carol.send("GET", image.blob(), {{"Authorization", "Bearer carol-secret"}});
  Response second = carol.read_head();
  CHECK(second.status == 200);
  image.cache.quay().release(image.layer);
  std::thread reader([&] { alice.read_rest(first); });
  carol.read_rest(second);
  reader.join();
  CHECK(first.body == image.bytes);
  CHECK(second.body == image.bytes);
  CHECK(image.cache.quay().seen().downloads == 1);
}

TEST_CASE("Passthrough: one check for all who wait with the same login", "[proxy]") {
  Private image;
  image.warm();
  image.cache.clock().advance(61s);
  const std::size_t before = image.cache.quay().seen().blob_heads;
  image.cache.quay().hold_questions();
  std::vector<Response> responses(20);
  std::vector<std::thread> clients;
  const double so_far = image.cache.metric("sluice_http_requests_total");
  for (Response& response : responses) {
    clients.emplace_back([&] { response = get(image.cache.port(), image.blob(), kAlice); });
  }
  const bool all_ask = image.cache.wait_for_metric("sluice_http_requests_total", so_far + 20);
  image.cache.quay().let_questions();
  for (std::thread& client : clients) client.join();
  CHECK(all_ask);
  for (const Response& response : responses) CHECK(response.body == image.bytes);
  CHECK(image.cache.quay().seen().blob_heads == before + 1);
}

TEST_CASE("Passthrough: who waits with another one's question is not refused by that one's login", "[proxy]") {
  Private image;
  image.cache.quay().allow("Bearer carol-secret", "team/app");
  const Fields carol{{"Authorization", "Bearer carol-secret"}};
  for (const Fields& who : {kAlice, carol}) REQUIRE(get(image.cache.port(), image.by_tag(), who).status == 200);
  const std::string fresh = image_manifest(9, kOciManifest);
  const oci::Digest digest = image.cache.quay().add_manifest("team/app", "v2", fresh, kOciManifest);
  const std::string path = manifest_path("quay.io/team/app", digest);
  const std::size_t before = image.cache.quay().seen().manifest_gets;
  image.cache.quay().hold_questions();
  Response first;
  std::thread alice([&] { first = get(image.cache.port(), path, kAlice); });
  const bool asked = image.cache.quay().wait_until([&](const auto& seen) { return seen.manifest_gets == before + 1; });
  Response second;
  std::thread other([&] { second = get(image.cache.port(), path, carol); });
  const bool both = image.cache.wait_for_metric("sluice_http_requests_total", 4);
  image.cache.quay().disallow("Bearer alice-secret", "team/app");
  image.cache.quay().let_questions();
  alice.join();
  other.join();
  CHECK(asked);
  CHECK(both);
  CHECK(first.status == 403);
  CHECK(second.status == 200);
  CHECK(second.body == fresh);
}

TEST_CASE("Passthrough: the other upstreams stay open", "[proxy]") {
  Private image;
  const oci::Digest digest = image.cache.hub().add_blob("library/app", "public");
  CHECK(get(image.cache.port(), blob_path("library/app", digest)).body == "public");
  CHECK(image.cache.hub().seen().behalves.empty());
  CHECK(get(image.cache.port(), "/v2/").status == 200);
  CHECK(image.cache.hub().seen().pings == 0);
}

TEST_CASE("Passthrough: the catalog does not list it", "[proxy]") {
  Private image;
  image.warm();
  for (const char* path : {"/v2/_catalog", "/v2/_catalog?ns=quay.io"}) {
    for (const Fields& who : {Fields{}, kAlice}) {
      CHECK(get(image.cache.port(), path, who).body == R"({"repositories":[]})");
    }
  }
}

TEST_CASE("Passthrough: /v2/ tells how to log in", "[proxy]") {
  Private image;
  const std::string ping = "/v2/?ns=quay.io";
  // Nothing is known yet, and upstream cannot tell.
  image.cache.quay().fail_all(Error{Errc::upstream_unreachable, "out"});
  CHECK(get(image.cache.port(), ping).status == 200);
  image.cache.quay().fail_all(std::nullopt);
  const Response challenged = get(image.cache.port(), ping);
  CHECK(challenged.status == 401);
  CHECK(challenged.field("www-authenticate").starts_with("Bearer realm=\"https://auth.test/token\""));
  const std::size_t before = image.cache.quay().seen().pings;
  CHECK(get(image.cache.port(), ping, kAlice).status == 200);
  CHECK(get(image.cache.port(), ping, kAlice).status == 200);
  CHECK(image.cache.quay().seen().pings == before + 1);
  // While upstream is out: as it was.
  image.cache.quay().fail_all(Error{Errc::upstream_unreachable, "out"});
  CHECK(get(image.cache.port(), ping).field("www-authenticate") == challenged.field("www-authenticate"));
  CHECK(get(image.cache.port(), ping, kBob).status == 200);
}

TEST_CASE("Passthrough: no login stands in a log", "[proxy]") {
  Private image;
  image.warm();
  CHECK(get(image.cache.port(), image.blob(), kBob).status == 403);
  CHECK(image.cache.wait_for_metric("sluice_http_requests_total", 4));
  for (const std::string& line : image.cache.access_log()) {
    CHECK(line.find("secret") == std::string::npos);
    CHECK(line.find("Bearer") == std::string::npos);
  }
}

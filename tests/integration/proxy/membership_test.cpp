// How long upstream's word that a repository has something is believed (descriptors.ttl), and what ends it.
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

constexpr auto kChecks = "sluice_membership_checks_total";

metrics::Labels result(const char* text) { return {{"result", text}}; }

// A blob that has been pulled through library/app.
struct Pulled {
  explicit Pulled(std::chrono::milliseconds ttl = 1h) : cache({.descriptor_ttl = ttl}) {
    digest = cache.hub().add_blob("library/app", blob);
    REQUIRE((get(cache.port(), path()).body == blob));
    REQUIRE(cache.wait_idle());
    REQUIRE(cache.hub().seen().all() == 1);
  }
  [[nodiscard]] std::string path() const { return blob_path("library/app", digest); }

  Fixture cache;
  const std::string blob = content(50'000);
  oci::Digest digest;
};

}  // namespace

TEST_CASE("Membership: believed for its time, then checked once and believed again", "[proxy]") {
  Pulled pulled;
  pulled.cache.clock().advance(1h - 1s);
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().blob_heads == 0);
  pulled.cache.clock().advance(1s);
  CHECK((get(pulled.cache.port(), pulled.path()).body == pulled.blob));
  CHECK(head(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().blob_heads == 1);
  CHECK(pulled.cache.hub().seen().downloads == 1);
  CHECK(pulled.cache.metric(kChecks, result("renewed")) == 1);
  pulled.cache.clock().advance(1h - 1s);
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().blob_heads == 1);
}

TEST_CASE("Membership: without a ttl it is believed for ever", "[proxy]") {
  Pulled pulled(0s);
  pulled.cache.clock().advance(24h * 365);
  pulled.cache.hub().refuse("library/app", Error{Errc::denied, "no more"});
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().all() == 1);
}

TEST_CASE("Membership: upstream's no takes it back", "[proxy]") {
  const Errc code = GENERATE(Errc::unauthorized, Errc::denied, Errc::blob_unknown, Errc::name_unknown);
  Pulled pulled;
  pulled.cache.clock().advance(1h);
  pulled.cache.hub().refuse("library/app", Error{code, "no more"});
  const unsigned status = code == Errc::unauthorized ? 401 : code == Errc::denied ? 403 : 404;
  CHECK(get(pulled.cache.port(), pulled.path()).status == status);
  CHECK(pulled.cache.metric(kChecks, result("revoked")) == 1);
  // It stays taken back: an outage does not bring it back to life.
  pulled.cache.clock().advance(1min);
  pulled.cache.hub().fail_all(Error{Errc::upstream_unreachable, "down"});
  CHECK(get(pulled.cache.port(), pulled.path()).status == 502);
  CHECK(head(pulled.cache.port(), pulled.path()).status == 502);
  // And upstream can give it again; the bytes are still here.
  pulled.cache.hub().fail_all({});
  pulled.cache.hub().refuse("library/app", {});
  CHECK((get(pulled.cache.port(), pulled.path()).body == pulled.blob));
  CHECK(pulled.cache.hub().seen().downloads == 1);
}

TEST_CASE("Membership: an outage takes nothing back, and is not asked about again and again", "[proxy]") {
  const Errc code = GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed, Errc::throttled,
                             Errc::upstream_down);
  Pulled pulled;
  pulled.cache.clock().advance(1h);
  pulled.cache.hub().fail_all(Error{code, "down"});
  for (int i = 0; i < 5; ++i) CHECK((get(pulled.cache.port(), pulled.path()).body == pulled.blob));
  CHECK(pulled.cache.hub().seen().blob_heads == 1);
  CHECK(pulled.cache.metric(kChecks, result("stale")) == 5);
  CHECK(pulled.cache.counted_blobs("stale", 5));
  pulled.cache.clock().advance(30s);
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().blob_heads == 2);
  pulled.cache.clock().advance(30s);
  pulled.cache.hub().fail_all({});
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(get(pulled.cache.port(), pulled.path()).status == 200);
  CHECK(pulled.cache.hub().seen().blob_heads == 3);
  CHECK(pulled.cache.metric(kChecks, result("renewed")) == 1);
}

TEST_CASE("Membership: an upstream that does not tell the length has it when it begins to send it", "[proxy]") {
  Pulled pulled;
  pulled.cache.clock().advance(1h);
  pulled.cache.hub().hide_sizes(true);
  const std::string method = GENERATE("GET", "HEAD");
  for (int round = 0; round < 3; ++round) {
    const Response response = fetch(pulled.cache.port(), method, pulled.path());
    CHECK(response.status == 200);
    CHECK(response.field("content-length") == std::to_string(pulled.blob.size()));
  }
  CHECK(pulled.cache.hub().seen().blob_heads == 1);
  CHECK(pulled.cache.hub().seen().downloads == 1);
  // Whom it gives nothing is told so.
  pulled.cache.clock().advance(1h);
  pulled.cache.hub().refuse("library/app", Error{Errc::denied, "no more"});
  CHECK(fetch(pulled.cache.port(), method, pulled.path()).status == 403);
}

TEST_CASE("Membership: one question for all who wait", "[proxy]") {
  const bool allowed = GENERATE(true, false);
  Pulled pulled;
  pulled.cache.clock().advance(1h);
  if (!allowed) pulled.cache.hub().refuse("library/app", Error{Errc::denied, "no more"});
  pulled.cache.hub().hold_questions();
  const metrics::Labels front{{"joint", "front"}};
  const double before = pulled.cache.metric("sluice_descriptor_cache_requests_total", front);
  std::vector<unsigned> statuses(8);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    threads.emplace_back([&pulled, &statuses, i] { statuses[i] = get(pulled.cache.port(), pulled.path()).status; });
  }
  // The front has been asked for each of them, and what it has is too old.
  const bool all = pulled.cache.wait_for_metric("sluice_descriptor_cache_requests_total", before + 8, front);
  const std::size_t asked = pulled.cache.hub().seen().blob_heads;
  pulled.cache.hub().let_questions();
  for (std::thread& thread : threads) thread.join();
  CHECK(all);
  CHECK(asked == 1);
  for (const unsigned status : statuses) CHECK(status == (allowed ? 200 : 403));
}

TEST_CASE("Membership: of a manifest too", "[proxy]") {
  Fixture cache({.descriptor_ttl = 1h});
  const std::string manifest = image_manifest(1, oci::media_type::kOciManifest);
  const oci::Digest digest =
      cache.hub().add_manifest("library/app", "latest", manifest, std::string(oci::media_type::kOciManifest));
  const std::string path = manifest_path("library/app", digest);
  REQUIRE(get(cache.port(), path).body == manifest);
  cache.clock().advance(1h);
  CHECK(get(cache.port(), path).body == manifest);
  CHECK(get(cache.port(), path).body == manifest);
  CHECK(cache.hub().seen().manifest_gets == 1);
  CHECK(cache.hub().seen().manifest_heads == 1);

  cache.clock().advance(1h);
  SECTION("an outage takes nothing back") {
    cache.hub().fail_all(Error{Errc::upstream_failed, "down"});
    for (int i = 0; i < 3; ++i) {
      const Response stale = get(cache.port(), path);
      CHECK(stale.body == manifest);
      CHECK(stale.field("warning") == "110 - \"Response is Stale\"");
      CHECK(head(cache.port(), path).status == 200);
    }
    CHECK(cache.hub().seen().manifest_heads == 2);
  }
  SECTION("upstream's no does") {
    cache.hub().refuse("library/app", Error{Errc::unauthorized, "no more"});
    CHECK(get(cache.port(), path).status == 401);
    CHECK(head(cache.port(), path).status == 401);
    cache.hub().fail_all(Error{Errc::upstream_failed, "down"});
    CHECK(get(cache.port(), path).status == 502);
  }
}

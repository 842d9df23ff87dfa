// What is fetched of an image before its client asks for it.
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/loop_runner.hpp"
#include "upstream/admission.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kRepository = "library/app";
const Fields kAccept = {{"Accept", std::string(oci::media_type::kOciManifest)}};

Fixture::Params params(access::Prefetch prefetch) {
  Fixture::Params out;
  out.prefetch = prefetch;
  return out;
}

// An image whose blobs are all there, at one registry.
struct Image {
  Image(FakeRegistry& at, std::size_t count, std::size_t bytes, const std::string& tag,
        const std::string& in = kRepository) {
    config = at.add_blob(in, "{\"of\":\"" + tag + "\"}");
    nlohmann::json listed = nlohmann::json::array();
    for (std::size_t i = 0; i < count; ++i) {
      layers.push_back(at.add_blob(in, content(bytes, static_cast<unsigned>(100 + i))));
      listed.push_back(
          {{"mediaType", oci::media_type::kOciLayerGzip}, {"size", bytes}, {"digest", layers[i].to_string()}});
    }
    add(at, std::move(listed), tag, in);
  }

  void add(FakeRegistry& at, nlohmann::json listed, const std::string& tag, const std::string& in) {
    const nlohmann::json manifest{
        {"schemaVersion", 2},
        {"mediaType", oci::media_type::kOciManifest},
        {"config",
         {{"mediaType", oci::media_type::kOciConfig}, {"size", 9 + tag.size()}, {"digest", config.to_string()}}},
        {"layers", std::move(listed)}};
    digest = at.add_manifest(in, tag, manifest.dump(), std::string(oci::media_type::kOciManifest));
  }

  oci::Digest config{oci::digest_of(oci::Algorithm::sha256, "")};
  std::vector<oci::Digest> layers;
  oci::Digest digest{oci::digest_of(oci::Algorithm::sha256, "")};
};

runtime::Task<Result<upstream::Admission::Turn>> enter(upstream::Admission* in,
                                                       std::shared_ptr<upstream::Urgency> urgency) {
  co_return co_await in->enter(upstream::Lane::heavy, std::move(urgency));
}
runtime::Task<bool> enter_and_leave(upstream::Admission* in) {
  const Result<upstream::Admission::Turn> turn = co_await in->enter(upstream::Lane::light);
  co_return turn.has_value();
}

bool counted(const Fixture& cache, const char* result, double count) {
  return cache.wait_for_metric("sluice_prefetch_blobs_total", count, {{"result", result}});
}

}  // namespace

TEST_CASE("Prefetch: layers come before they are asked for, each once", "[proxy]") {
  Fixture cache(params(access::Prefetch::layers));
  const Image image(cache.hub(), 4, 300'000, "v1");
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  REQUIRE(counted(cache, "fetched", 5));
  for (const oci::Digest& layer : image.layers) CHECK(cache.store().find(layer));
  for (const oci::Digest& layer : image.layers) CHECK(get(cache.port(), blob_path(kRepository, layer)).complete);
  CHECK(get(cache.port(), blob_path(kRepository, image.config)).status == 200);
  CHECK(cache.counted_blobs("hit", 5));
  CHECK(cache.hub().seen().downloads == 5);
  CHECK(cache.hub().seen().blob_heads == 0);
  CHECK(cache.metric("sluice_prefetch_bytes_total") == 4 * 300'000 + 11);
  CHECK(cache.metric("sluice_prefetch_running") == 0);
  CHECK(cache.metric("sluice_prefetch_waiting") == 0);

  // By digest, and once more: it was looked at.
  CHECK(get(cache.port(), manifest_path(kRepository, image.digest), kAccept).status == 200);
  REQUIRE(cache.wait_idle());
  CHECK(cache.metric("sluice_prefetch_blobs_total") == 5);
}

TEST_CASE("Prefetch: the configuration alone, or nothing", "[proxy]") {
  const bool config = GENERATE(true, false);
  Fixture cache(params(config ? access::Prefetch::config : access::Prefetch::none));
  const Image image(cache.hub(), 2, 1000, "v1");
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  CHECK(counted(cache, "fetched", config ? 1 : 0));
  CHECK(get(cache.port(), blob_path(kRepository, image.layers[0])).status == 200);
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(image.config).has_value() == config);
  CHECK(cache.hub().seen().downloads == (config ? 2 : 1));
}

TEST_CASE("Prefetch: a HEAD, an unchanged manifest and an index start nothing", "[proxy]") {
  Fixture cache(params(access::Prefetch::layers));
  const Image image(cache.hub(), 1, 1000, "v1");
  const oci::Digest index = cache.hub().add_manifest(kRepository, "multi", index_manifest(image.digest, 500),
                                                     std::string(oci::media_type::kOciIndex));
  CHECK(head(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  CHECK(get(cache.port(), manifest_path(kRepository, "multi")).status == 200);
  CHECK(get(cache.port(), manifest_path(kRepository, index)).status == 200);
  Fields known = kAccept;
  known.emplace_back("If-None-Match", "\"" + image.digest.to_string() + "\"");
  CHECK(get(cache.port(), manifest_path(kRepository, image.digest), known).status == 304);
  REQUIRE(cache.wait_idle());
  CHECK(cache.hub().seen().downloads == 0);
  // Whoever chooses a platform does.
  CHECK(get(cache.port(), manifest_path(kRepository, image.digest), kAccept).status == 200);
  CHECK(counted(cache, "fetched", 2));
}

TEST_CASE("Prefetch: a client joins what is on its way, and it is the client's then", "[proxy]") {
  Fixture::Params how = params(access::Prefetch::layers);
  how.abandoned = streamcache::Abandoned::fail;
  Fixture cache(how);
  const Image image(cache.hub(), 1, 2'000'000, "v1");
  cache.hub().hold(image.layers[0], 100'000);
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 2 && seen.bytes >= 100'000; }));
  Client client(cache.port());
  client.send("GET", blob_path(kRepository, image.layers[0]));
  Response response = client.read_head();
  CHECK(response.status == 200);
  std::size_t raised = 0;
  for (const auto& urgency : cache.hub().seen().urgencies) raised += urgency->raised() ? 1 : 0;
  CHECK(raised == 1);
  cache.hub().release(image.layers[0]);
  client.read_rest(response);
  CHECK(response.complete);
  CHECK(response.body == content(2'000'000, 100));
  CHECK(counted(cache, "handed_over", 1));
  CHECK(cache.counted_blobs("join", 1));
  CHECK(cache.hub().seen().downloads == 2);
}

TEST_CASE("Prefetch: who was joined and left alone goes on as fills do", "[proxy]") {
  Fixture::Params how = params(access::Prefetch::layers);
  how.abandoned = streamcache::Abandoned::fail;
  Fixture cache(how);
  const Image image(cache.hub(), 1, 2'000'000, "v1");
  cache.hub().hold(image.layers[0], 100'000);
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.bytes >= 100'000; }));
  {
    Client client(cache.port());
    client.send("GET", blob_path(kRepository, image.layers[0]));
    CHECK(client.read_head().status == 200);
    cache.hub().hold(image.layers[0], 400'000);
    CHECK(counted(cache, "handed_over", 1));
  }
  // Nobody is left who wants it: it is parked.
  REQUIRE(cache.wait_idle());
  CHECK_FALSE(cache.store().find(image.layers[0]));
  cache.hub().release(image.layers[0]);
  CHECK(get(cache.port(), blob_path(kRepository, image.layers[0])).body == content(2'000'000, 100));
  CHECK(cache.hub().seen().offsets.back() > 0);
}

TEST_CASE("Prefetch: one whose turn others need lets go, and goes on from where it was", "[proxy]") {
  Fixture cache(params(access::Prefetch::layers));
  const Image image(cache.hub(), 1, 2'000'000, "v1");
  cache.hub().hold(image.layers[0], 100'000);
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 2 && seen.bytes >= 100'000; }));
  REQUIRE(counted(cache, "fetched", 1));
  {
    SystemClock clock;
    upstream::Admission admission({{.slots = 1}, 20s}, clock, nullptr, nullptr);
    LoopRunner loops;
    // Whichever of the two is the layer's.
    std::vector<std::future<bool>> others;
    for (const auto& urgency : cache.hub().seen().urgencies) {
      {
        const auto turn = loops.run(enter(&admission, urgency));
        REQUIRE(turn.has_value());
        others.push_back(loops.start(enter_and_leave(&admission)));
        while (!urgency->must_yield()) std::this_thread::yield();
      }
      CHECK(others.back().get());
    }
    cache.hub().release(image.layers[0]);
    REQUIRE(counted(cache, "fetched", 2));
    loops.stop();
  }
  const FakeRegistry::Seen seen = cache.hub().seen();
  CHECK(seen.downloads > 2);
  CHECK(seen.offsets.back() > 0);
  CHECK(seen.bytes == 2'000'000 + 11);
  CHECK(get(cache.port(), blob_path(kRepository, image.layers[0])).body == content(2'000'000, 100));
}

TEST_CASE("Prefetch: bounded in number and in bytes", "[proxy]") {
  Fixture::Params how = params(access::Prefetch::layers);
  SECTION("in number") {
    how.prefetcher.parallel = 2;
    Fixture cache(how);
    const Image image(cache.hub(), 5, 1000, "v1");
    for (const oci::Digest& layer : image.layers) cache.hub().hold(layer, 10);
    cache.hub().hold(image.config, 1);
    REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
    REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 2; }));
    CHECK(cache.wait_for_metric("sluice_prefetch_waiting", 4));
    CHECK(cache.metric("sluice_prefetch_running") == 2);
    cache.hub().release(image.config);
    REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 3; }));
    for (const oci::Digest& layer : image.layers) cache.hub().release(layer);
    CHECK(counted(cache, "fetched", 6));
  }
  SECTION("in bytes") {
    how.prefetcher.bytes = 2500;
    Fixture cache(how);
    const Image image(cache.hub(), 3, 1000, "v1");
    for (const oci::Digest& layer : image.layers) cache.hub().hold(layer, 10);
    REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
    REQUIRE(counted(cache, "fetched", 1));
    REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.downloads == 3; }));
    CHECK(cache.wait_for_metric("sluice_prefetch_waiting", 1));
    for (const oci::Digest& layer : image.layers) cache.hub().release(layer);
    CHECK(counted(cache, "fetched", 4));
    const Image large(cache.hub(), 1, 2501, "large");
    REQUIRE(get(cache.port(), manifest_path(kRepository, "large"), kAccept).status == 200);
    CHECK(counted(cache, "left_out", 1));
    CHECK(counted(cache, "fetched", 5));
  }
}

TEST_CASE("Prefetch: not what lies elsewhere, nor what is here, nor with a client's login", "[proxy]") {
  Fixture::Params how = params(access::Prefetch::layers);
  how.quay_passthrough = access::Passthrough{};
  Fixture cache(how);
  Image image(cache.hub(), 1, 1000, "v1");
  const oci::Digest foreign = cache.hub().add_blob(kRepository, content(700, 7));
  image.add(cache.hub(),
            {{{"mediaType", oci::media_type::kOciLayerGzip}, {"size", 1000}, {"digest", image.layers[0].to_string()}},
             {{"mediaType", oci::media_type::kOciLayerGzip},
              {"size", 700},
              {"digest", foreign.to_string()},
              {"urls", {"https://example.test/layer"}}}},
            "foreign", kRepository);
  CHECK(get(cache.port(), blob_path(kRepository, image.layers[0])).status == 200);
  REQUIRE(get(cache.port(), manifest_path(kRepository, "foreign"), kAccept).status == 200);
  CHECK(counted(cache, "fetched", 1));
  CHECK(counted(cache, "present", 1));
  CHECK_FALSE(cache.store().find(foreign));

  const Image secret(cache.quay(), 1, 1000, "v1", "team/app");
  cache.quay().allow("Bearer one", "team/app");
  Fields login = kAccept;
  login.emplace_back("Authorization", "Bearer one");
  REQUIRE(get(cache.port(), manifest_path("quay.io/team/app", "v1"), login).status == 200);
  REQUIRE(cache.wait_idle());
  CHECK(cache.quay().seen().downloads == 0);
}

TEST_CASE("Prefetch: what fails fails nobody, and the end of the program ends it", "[proxy]") {
  Fixture::Params how = params(access::Prefetch::layers);
  how.prefetcher.parallel = 2;
  Fixture cache(how);
  const Image image(cache.hub(), 8, 1000, "v1");
  cache.hub().plan(image.config, {.refuse = Error(Errc::upstream_failed)});
  for (const oci::Digest& layer : image.layers) cache.hub().hold(layer, 10);
  REQUIRE(get(cache.port(), manifest_path(kRepository, "v1"), kAccept).status == 200);
  REQUIRE(counted(cache, "failed", 1));
  CHECK(get(cache.port(), blob_path(kRepository, image.config)).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.open == 2; }));
  CHECK(cache.stop());
}

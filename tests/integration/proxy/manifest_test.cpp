// Manifests: by digest, by tag, while upstream answers and while it does not.
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/temp_directory.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const std::string kOciIndex(oci::media_type::kOciIndex);
const std::string kSchema2(oci::media_type::kDockerSchema2);

const Fields kAcceptAll{{"Accept", kSchema2},
                        {"Accept", std::string(oci::media_type::kDockerList)},
                        {"Accept", kOciManifest + ", " + kOciIndex}};

const std::string kLatest = manifest_path("library/app", "latest");

}  // namespace

TEST_CASE("Proxy: a manifest by tag and by digest", "[proxy]") {
  Fixture cache;
  const std::string type = GENERATE(kOciManifest, kSchema2);
  const std::string manifest = image_manifest(1, type);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, type);
  for (const std::string& path : {kLatest, manifest_path("library/app", digest)}) {
    for (int round = 0; round < 2; ++round) {
      const Response response = get(cache.port(), path, kAcceptAll);
      CHECK(response.status == 200);
      CHECK(response.complete);
      CHECK(response.body == manifest);
      CHECK(response.field("content-type") == type);
      CHECK(response.field("docker-content-digest") == digest.to_string());
      CHECK(response.field("content-length") == std::to_string(manifest.size()));
      CHECK(response.field("etag") == '"' + digest.to_string() + '"');
      const Response told = head(cache.port(), path, kAcceptAll);
      CHECK(told.status == 200);
      CHECK(told.field("content-length") == std::to_string(manifest.size()));
      CHECK(told.field("content-type") == type);
      CHECK(told.field("docker-content-digest") == digest.to_string());
    }
  }
  CHECK(cache.hub().seen().manifest_gets == 1);
  CHECK(cache.hub().seen().manifest_heads == 0);
  CHECK(cache.counted_manifests("miss", 1));
  CHECK(cache.counted_manifests("hit", 7));
  CHECK(cache.metric("sluice_fill_received_bytes_total") == static_cast<double>(manifest.size()));
  CHECK(cache.wait_for_metric("sluice_cache_sent_bytes_total", 3.0 * static_cast<double>(manifest.size())));
}

TEST_CASE("Proxy: a manifest that is in the store is read from there", "[proxy]") {
  Fixture cache({.manifest_memory_bytes = 0});
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  for (int round = 0; round < 3; ++round)
    CHECK(get(cache.port(), manifest_path("library/app", digest)).body == manifest);
  CHECK(cache.hub().seen().manifests() == 1);
  // Nobody holds the manifest any more: what somebody holds is served from memory.
  CHECK(cache.counted_manifests("miss", 1));
  CHECK(cache.counted_manifests("hit", 2));
  // Damage is noticed, and mended from upstream.
  std::filesystem::resize_file(cache.store().layout().blob(digest), 10);
  CHECK(get(cache.port(), manifest_path("library/app", digest)).body == manifest);
  CHECK(cache.hub().seen().manifests() == 2);
  std::filesystem::remove(cache.store().layout().blob(digest));
  CHECK(get(cache.port(), kLatest).body == manifest);
  CHECK(get(cache.port(), manifest_path("library/app", digest)).body == manifest);
}

TEST_CASE("Proxy: a large manifest is answered from its file, and hashed before that", "[proxy]") {
  Fixture cache;
  std::string manifest = image_manifest(1, kOciManifest);
  manifest.insert(manifest.rfind('}'), std::string(100'000, ' '));
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const std::string path = manifest_path("library/app", digest);
  CHECK((get(cache.port(), path).body == manifest));
  const Response again = get(cache.port(), path, {{"If-None-Match", '"' + digest.to_string() + '"'}});
  CHECK(again.status == 304);
  CHECK(again.body.empty());
  CHECK(cache.hub().seen().manifests() == 1);
  const runtime::Path file = cache.store().layout().blob(digest);
  const auto damage = [&] { std::fstream(file, std::ios::in | std::ios::out | std::ios::binary).seekp(50'000) << 'x'; };
  SECTION("damaged, and not hashed lately") {
    cache.clock().advance(11min);
    damage();
    CHECK((get(cache.port(), path).body == manifest));
    CHECK(cache.hub().seen().manifests() == 2);
  }
  SECTION("cut short") {
    std::filesystem::resize_file(file, 50'000);
    CHECK((get(cache.port(), path).body == manifest));
    CHECK(cache.hub().seen().manifests() == 2);
  }
  SECTION("damaged, and hashed lately: as a blob, found by the scrubber") {
    damage();
    CHECK(get(cache.port(), path).body.size() == manifest.size());
    CHECK(cache.hub().seen().manifests() == 1);
    cache.store().suspect(digest);
    cache.store().scrub();
    CHECK_FALSE(cache.store().find(digest).has_value());
    CHECK((get(cache.port(), path).body == manifest));
    CHECK(cache.hub().seen().manifests() == 2);
  }
}

TEST_CASE("Proxy: a large manifest that the store refuses is served from memory", "[proxy]") {
  Fixture cache;
  cache.filesystem().set_rule([](runtime::FaultyFilesystem::Operation operation, const runtime::Path&) {
    return operation == runtime::FaultyFilesystem::Operation::create ? ENOSPC : 0;
  });
  std::string manifest = image_manifest(1, kOciManifest);
  manifest.insert(manifest.rfind('}'), std::string(100'000, ' '));
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  for (int round = 0; round < 3; ++round) {
    CHECK((get(cache.port(), manifest_path("library/app", digest)).body == manifest));
  }
  CHECK_FALSE(cache.store().find(digest).has_value());
  CHECK(cache.hub().seen().manifests() == 1);
}

TEST_CASE("Proxy: a cold HEAD of a manifest makes only a HEAD upstream", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const std::string path = GENERATE(false, true) ? kLatest : manifest_path("library/app", digest);
  for (int round = 0; round < 2; ++round) {
    const Response response = head(cache.port(), path);
    CHECK(response.status == 200);
    CHECK(response.field("content-length") == std::to_string(manifest.size()));
    CHECK(response.field("content-type") == kOciManifest);
    CHECK(response.field("docker-content-digest") == digest.to_string());
  }
  CHECK(cache.hub().seen().manifest_gets == 0);
  CHECK(cache.hub().seen().manifest_heads == 1);
  CHECK(get(cache.port(), path).body == manifest);
  CHECK(cache.hub().seen().manifest_gets == 1);
}

TEST_CASE("Proxy: an upstream that tells no digest in its HEAD is asked by GET", "[proxy]") {
  Fixture cache;
  cache.hub().hide_digests(true);
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  CHECK(head(cache.port(), kLatest).field("docker-content-digest") == digest.to_string());
  CHECK(cache.hub().seen().manifest_gets == 1);
  CHECK(get(cache.port(), kLatest).body == manifest);
  CHECK(cache.hub().seen().manifest_gets == 1);
}

TEST_CASE("Proxy: a tag is believed for its ttl, then compared by one HEAD for all", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  REQUIRE(get(cache.port(), kLatest).body == manifest);
  cache.clock().advance(59s);
  CHECK(get(cache.port(), kLatest).body == manifest);
  CHECK(cache.hub().seen().manifests() == 1);

  cache.clock().advance(2s);
  cache.hub().hold_questions();
  std::vector<Response> responses(20);
  std::vector<std::thread> clients;
  for (Response& response : responses) clients.emplace_back([&] { response = get(cache.port(), kLatest); });
  const bool all_ask = cache.wait_for_metric("sluice_http_requests_total", 22);
  const bool asked = cache.hub().wait_until([](const auto& seen) { return seen.manifests() == 2; });
  cache.hub().let_questions();
  for (std::thread& client : clients) client.join();
  CHECK(all_ask);
  CHECK(asked);
  for (const Response& response : responses) CHECK(response.body == manifest);
  CHECK(cache.hub().seen().manifest_heads == 1);
  CHECK(cache.hub().seen().manifest_gets == 1);

  // The ttl has begun anew.
  cache.clock().advance(59s);
  CHECK(get(cache.port(), kLatest).body == manifest);
  CHECK(cache.hub().seen().manifests() == 2);
}

TEST_CASE("Proxy: a cold tag is fetched once for all who ask", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  cache.hub().hold_questions();
  std::vector<Response> responses(20);
  std::vector<std::thread> clients;
  for (Response& response : responses) clients.emplace_back([&] { response = get(cache.port(), kLatest); });
  const bool all_ask = cache.wait_for_metric("sluice_http_requests_total", 20);
  cache.hub().let_questions();
  for (std::thread& client : clients) client.join();
  CHECK(all_ask);
  for (const Response& response : responses) CHECK(response.body == manifest);
  CHECK(cache.hub().seen().manifests() == 1);
}

TEST_CASE("Proxy: a tag that has moved", "[proxy]") {
  Fixture cache;
  const std::string old_manifest = image_manifest(1, kOciManifest);
  const std::string new_manifest = image_manifest(2, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", old_manifest, kOciManifest);
  REQUIRE(get(cache.port(), kLatest).body == old_manifest);
  const oci::Digest moved = cache.hub().add_manifest("library/app", "latest", new_manifest, kOciManifest);
  CHECK(get(cache.port(), kLatest).body == old_manifest);
  cache.clock().advance(61s);
  if (GENERATE(false, true)) {
    CHECK(head(cache.port(), kLatest).field("docker-content-digest") == moved.to_string());
  }
  const Response response = get(cache.port(), kLatest);
  CHECK(response.body == new_manifest);
  CHECK(response.field("docker-content-digest") == moved.to_string());
  CHECK(get(cache.port(), kLatest).body == new_manifest);
  CHECK(cache.hub().seen().manifest_heads == 1);
  CHECK(cache.hub().seen().manifest_gets == 2);
}

TEST_CASE("Proxy: a manifest is served stale while upstream is out", "[proxy]") {
  const Errc outage = GENERATE(Errc::upstream_unreachable, Errc::upstream_timeout, Errc::upstream_failed,
                               Errc::throttled, Errc::upstream_protocol, Errc::overloaded);
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  REQUIRE(get(cache.port(), kLatest).field("warning").empty());
  cache.clock().advance(61s);
  cache.hub().fail_all(Error{outage, "out"});
  const Response response = get(cache.port(), kLatest);
  CHECK(response.status == 200);
  CHECK(response.body == manifest);
  CHECK(response.field("warning").starts_with("110 "));
  const Response told = head(cache.port(), kLatest);
  CHECK(told.field("docker-content-digest") == digest.to_string());
  CHECK(told.field("warning").starts_with("110 "));
  CHECK(cache.counted_manifests("stale", 2));

  cache.hub().fail_all(std::nullopt);
  CHECK(get(cache.port(), kLatest).field("warning").empty());
}

TEST_CASE("Proxy: a stale manifest is served no longer than wanted", "[proxy]") {
  Fixture cache({.stale_for = 10min});
  const std::string manifest = image_manifest(1, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  REQUIRE(get(cache.port(), kLatest).status == 200);
  cache.hub().fail_all(Error{Errc::upstream_timeout, "out"});
  cache.clock().advance(11min);
  CHECK(get(cache.port(), kLatest).status == 200);
  cache.clock().advance(1s);
  const Response response = get(cache.port(), kLatest);
  CHECK(response.status == 504);
  CHECK(error_code(response.body) == "UNAVAILABLE");
}

TEST_CASE("Proxy: an outage between a tag's move and its new manifest leaves the old one", "[proxy]") {
  Fixture cache;
  const std::string old_manifest = image_manifest(1, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", old_manifest, kOciManifest);
  REQUIRE(get(cache.port(), kLatest).body == old_manifest);
  const std::string new_manifest = image_manifest(2, kOciManifest);
  const oci::Digest moved = cache.hub().add_manifest("library/app", "latest", new_manifest, kOciManifest);
  // Its HEAD is answered, its GET is not: what comes has another digest.
  cache.hub().spoil(moved, true);
  cache.clock().advance(61s);
  for (int round = 0; round < 3; ++round) {
    for (const std::string method : {"GET", "HEAD"}) {
      const Response response = fetch(cache.port(), method, kLatest);
      CHECK(response.status == 200);
      if (method == "GET") CHECK(response.body == old_manifest);
      CHECK(response.field("warning").starts_with("110 "));
    }
  }
  cache.hub().spoil(moved, false);
  CHECK(get(cache.port(), kLatest).body == new_manifest);
}

TEST_CASE("Proxy: upstream's refusals are answers, not outages", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const bool cached = GENERATE(false, true);
  if (cached) REQUIRE(get(cache.port(), kLatest).status == 200);
  cache.clock().advance(61s);
  SECTION("401") {
    cache.hub().refuse("library/app", Error{Errc::unauthorized, "no"});
    const Response response = get(cache.port(), kLatest);
    CHECK(response.status == 401);
    CHECK(error_code(response.body) == "UNAUTHORIZED");
  }
  SECTION("403") {
    cache.hub().refuse("library/app", Error{Errc::denied, "no"});
    const Response response = get(cache.port(), kLatest);
    CHECK(response.status == 403);
    CHECK(error_code(response.body) == "DENIED");
  }
  SECTION("404, remembered for a time") {
    cache.hub().remove_manifest("library/app", "latest");
    const std::size_t before = cache.hub().seen().manifests();
    for (int round = 0; round < 3; ++round) {
      const Response response = get(cache.port(), kLatest);
      CHECK(response.status == 404);
      CHECK(error_code(response.body) == "MANIFEST_UNKNOWN");
    }
    CHECK(cache.hub().seen().manifests() == before + 1);
    cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
    cache.clock().advance(5s);
    CHECK(get(cache.port(), kLatest).status == 200);
  }
}

TEST_CASE("Proxy: a tag that upstream has refused does not come back with an outage", "[proxy]") {
  const Errc code = GENERATE(Errc::manifest_unknown, Errc::name_unknown, Errc::unauthorized, Errc::denied);
  const std::string method = GENERATE("GET", "HEAD");
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const auto ask = [&](const std::string& path) { return fetch(cache.port(), method, path).status; };
  REQUIRE(get(cache.port(), kLatest).status == 200);
  cache.clock().advance(61s);
  cache.hub().refuse("library/app", Error{code, "no"});
  const unsigned status = code == Errc::unauthorized ? 401 : code == Errc::denied ? 403 : 404;
  CHECK(ask(kLatest) == status);
  cache.hub().refuse("library/app", {});
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "out"});
  cache.clock().advance(6s);
  CHECK(ask(kLatest) == 502);
  // That the tag is gone says nothing of what it named; that the repository may not be read does.
  CHECK(ask(manifest_path("library/app", digest)) == (status == 404 ? 200 : 502));
  cache.hub().fail_all({});
  CHECK(ask(kLatest) == 200);
}

TEST_CASE("Proxy: bytes that do not have the digest they were asked by are not served", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  cache.hub().spoil(digest, true);
  const Response response = get(cache.port(), manifest_path("library/app", digest));
  CHECK(response.status == 502);
  CHECK(error_code(response.body) == "UNAVAILABLE");
  CHECK_FALSE(cache.store().find(digest).has_value());
  cache.hub().spoil(digest, false);
  CHECK(get(cache.port(), manifest_path("library/app", digest)).body == manifest);
}

TEST_CASE("Proxy: what is not a manifest is not served as one", "[proxy]") {
  Fixture cache;
  const std::string page = "<html><body>Please log in</body></html>";
  const std::string type = GENERATE("text/html", "application/json", "");
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", page, type);
  const Response response = get(cache.port(), kLatest);
  CHECK(response.status == 502);
  CHECK(error_code(response.body) == "MANIFEST_INVALID");
  CHECK(head(cache.port(), kLatest).status == 502);
  CHECK_FALSE(cache.store().find(digest).has_value());
  // By its digest it is what was asked for.
  CHECK(get(cache.port(), manifest_path("library/app", digest)).body == page);
}

TEST_CASE("Proxy: a generic content type is replaced by what the manifest says", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const std::string type = GENERATE("", "application/json", "application/octet-stream", "text/plain");
  cache.hub().add_manifest("library/app", "latest", manifest, type);
  CHECK(head(cache.port(), kLatest).field("content-type") == kOciManifest);
  CHECK(get(cache.port(), kLatest).field("content-type") == kOciManifest);
}

TEST_CASE("Proxy: a client that takes no index gets what upstream has for it", "[proxy]") {
  Fixture cache;
  const std::string image = image_manifest(1, kSchema2);
  const std::string index = index_manifest(oci::digest_of(oci::Algorithm::sha256, image), image.size());
  cache.hub().add_manifest("library/app", "latest", index, kOciIndex);
  const Fields narrow{{"Accept", kSchema2}};

  SECTION("a form of its own") {
    cache.hub().set_narrow("library/app", "latest", image, kSchema2);
    for (int round = 0; round < 2; ++round) {
      const Response response = get(cache.port(), kLatest, narrow);
      CHECK(response.body == image);
      CHECK(response.field("content-type") == kSchema2);
      CHECK(get(cache.port(), kLatest, kAcceptAll).body == index);
      CHECK(get(cache.port(), kLatest, {{"Accept", "*/*"}}).body == index);
      CHECK(get(cache.port(), kLatest).body == index);
    }
    // The whole list first, then what this client takes.
    CHECK(cache.hub().seen().accepts == std::vector<std::string>{"", kSchema2});
  }
  SECTION("by digest it is what it is") {
    const std::string path = manifest_path("library/app", oci::digest_of(oci::Algorithm::sha256, index));
    CHECK(get(cache.port(), path, narrow).body == index);
  }
  SECTION("a client that names no manifest type gets what there is") {
    CHECK(get(cache.port(), kLatest, {{"Accept", "text/html"}}).body == index);
  }
}

TEST_CASE("Proxy: a tag has one record for each form, however many lists of types clients send", "[proxy]") {
  Fixture cache;
  const std::string image = image_manifest(1, kSchema2);
  const std::string index = index_manifest(oci::digest_of(oci::Algorithm::sha256, image), image.size());
  cache.hub().add_manifest("library/app", "latest", index, kOciIndex);
  cache.hub().set_narrow("library/app", "latest", image, kSchema2);
  const std::vector<std::string> others{std::string(oci::media_type::kDockerList), kOciManifest,
                                        std::string(oci::media_type::kDockerSchema1Signed),
                                        std::string(oci::media_type::kDockerSchema1)};
  // All sets of types with schema 2 in them, without the index that the tag is, and without a list.
  for (unsigned set = 0; set < 8; ++set) {
    std::string accept = kSchema2;
    for (unsigned i = 1; i < 4; ++i) {
      if ((set >> (i - 1) & 1U) != 0) accept += ", " + others[i];
    }
    INFO(accept);
    const Response response = get(cache.port(), kLatest, {{"Accept", accept}});
    CHECK(response.body == image);
    CHECK(response.field("content-type") == kSchema2);
  }
  // The first list was asked by, the others found what it had brought.
  CHECK(cache.hub().seen().accepts.size() == 2);
  const auto scope = *descriptors::Scope::repository("docker.io/library/app");
  CHECK(cache.store().catalog().tag_records(scope).size() == 2);
  // It is renewed and followed as any other.
  const std::string next = image_manifest(2, kSchema2);
  cache.hub().set_narrow("library/app", "latest", next, kSchema2);
  cache.clock().advance(61s);
  for (const std::string& accept : {kSchema2, kSchema2 + ", " + kOciManifest}) {
    CHECK(get(cache.port(), kLatest, {{"Accept", accept}}).body == next);
  }
  CHECK(cache.store().catalog().tag_records(scope).size() == 2);
}

TEST_CASE("Proxy: a client that takes none of a tag's forms is answered from what was learnt", "[proxy]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const std::string index = index_manifest(oci::digest_of(oci::Algorithm::sha256, "image"), 5);
  const Fields narrow{{"Accept", kSchema2}};
  const Fields other{{"Accept", kSchema2 + ", " + kOciManifest}};
  const auto scope = *descriptors::Scope::repository("docker.io/library/app");
  {
    Fixture cache({.data = data});
    cache.hub().add_manifest("library/app", "latest", index, kOciIndex);
    const auto check = [&](const Fields& accept, std::size_t asked) {
      for (const std::string method : {"GET", "HEAD", "GET"}) {
        const Response response = fetch(cache.port(), method, kLatest, accept);
        CHECK(response.status == 200);
        CHECK(response.field("content-type") == kOciIndex);
        if (method == "GET") CHECK(response.body == index);
      }
      CHECK(cache.hub().seen().manifests() == asked);
    };
    // The whole list first, then each list of types once.
    check(narrow, 2);
    check(other, 3);
    check(narrow, 3);
    CHECK(cache.store().catalog().tag_records(scope).size() == 2);
    // Compared as any other when it has grown old.
    cache.clock().advance(61s);
    check(narrow, 5);
    CHECK(cache.hub().seen().manifest_gets == 2);
    cache.clock().advance(61s);
    cache.hub().fail_all(Error{Errc::upstream_unreachable, "out"});
    for (const Fields& accept : {narrow, other}) {
      const Response stale = get(cache.port(), kLatest, accept);
      CHECK(stale.status == 200);
      CHECK(stale.body == index);
      CHECK_FALSE(stale.field("warning").empty());
    }
    REQUIRE(cache.stop());
  }
  Fixture cache({.data = data});
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "out"});
  CHECK(get(cache.port(), kLatest, narrow).body == index);
  // An answer that it is gone takes it back for all.
  cache.hub().fail_all(std::nullopt);
  cache.clock().advance(61s);
  CHECK(get(cache.port(), kLatest, narrow).status == 404);
  CHECK(cache.store().catalog().tag_records(scope).empty());
}

TEST_CASE("Proxy: what a client of other types gets is its own, also where upstream has ignored types before",
          "[proxy]") {
  Fixture cache;
  const std::string image = image_manifest(1, kSchema2);
  const std::string index = index_manifest(oci::digest_of(oci::Algorithm::sha256, image), image.size());
  cache.hub().add_manifest("library/app", "latest", index, kOciIndex);
  REQUIRE(get(cache.port(), kLatest, {{"Accept", kOciManifest}}).body == index);
  // By now there is a form for those who take schema 2.
  cache.hub().set_narrow("library/app", "latest", image, kSchema2);
  CHECK(get(cache.port(), kLatest, {{"Accept", kSchema2}}).body == image);
  // A removal is one for all.
  REQUIRE(cache.store().catalog().clear_tag(*descriptors::Scope::repository("docker.io/library/app"), "latest"));
  const std::size_t asked = cache.hub().seen().manifests();
  CHECK(get(cache.port(), kLatest, {{"Accept", kOciManifest}}).body == image);
  CHECK(cache.hub().seen().manifests() == asked + 2);
}

TEST_CASE("Proxy: a tag that was gone takes back what clients of all types got of it", "[proxy]") {
  Fixture cache;
  const Fields some{{"Accept", kOciManifest}};
  const Fields others{{"Accept", kSchema2}};
  const std::string before = index_manifest(oci::digest_of(oci::Algorithm::sha256, "before"), 6);
  const std::string after = index_manifest(oci::digest_of(oci::Algorithm::sha256, "after"), 5);
  cache.hub().add_manifest("library/app", "latest", before, kOciIndex);
  REQUIRE(get(cache.port(), kLatest, some).body == before);
  cache.hub().fail_all(Error{Errc::manifest_unknown, "gone"});
  CHECK(get(cache.port(), kLatest, others).status == 404);
  cache.hub().fail_all(std::nullopt);
  cache.hub().add_manifest("library/app", "latest", after, kOciIndex);
  cache.clock().advance(6s);  // that it was unknown is forgotten
  CHECK(get(cache.port(), kLatest, others).body == after);
  CHECK(get(cache.port(), kLatest, some).body == after);
}

TEST_CASE("Proxy: a client that has the manifest gets 304", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", manifest, kOciManifest);
  const std::string etag = '"' + digest.to_string() + '"';
  for (const std::string method : {"GET", "HEAD"}) {
    const Response response = fetch(cache.port(), method, kLatest, {{"If-None-Match", etag}});
    CHECK(response.status == 304);
    CHECK(response.body.empty());
    CHECK(response.field("etag") == etag);
  }
  CHECK(get(cache.port(), kLatest, {{"If-None-Match", "\"other\""}}).body == manifest);
}

TEST_CASE("Proxy: a manifest cached for one repository is given to another only with upstream's word", "[proxy]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("private/app", "latest", manifest, kOciManifest);
  REQUIRE(get(cache.port(), manifest_path("private/app", "latest")).status == 200);
  CHECK(get(cache.port(), manifest_path("other/app", digest)).status == 404);
  cache.hub().add_manifest("third/app", "", manifest, kOciManifest);
  CHECK(get(cache.port(), manifest_path("third/app", digest)).body == manifest);
  // Its bytes were here already.
  CHECK(cache.hub().seen().manifest_gets == 1);
}

// Two names of one blob: its sha256, under which it lies, and a sha512 or sha384 that it is asked for by.
#include <atomic>
#include <filesystem>
#include <memory>
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

std::string quoted(const oci::Digest& digest) { return '"' + digest.to_string() + '"'; }

std::size_t files(Fixture& cache) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cache.store().layout().blobs())) {
    count += entry.is_regular_file() ? 1 : 0;
  }
  return count;
}

oci::Digest sha256_of(const std::string& bytes) { return oci::digest_of(oci::Algorithm::sha256, bytes); }

}  // namespace

TEST_CASE("Names: a blob of untold length is fetched by another algorithm's name", "[proxy]") {
  Fixture cache;
  cache.hub().hide_sizes(true);
  const std::string blob = content(300'000);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
  CHECK((get(cache.port(), blob_path("library/app", other)).body == blob));
  REQUIRE(cache.wait_idle());
  CHECK((get(cache.port(), blob_path("library/app", other)).body == blob));
}

TEST_CASE("Names: a blob asked for by another algorithm is kept once, under its sha256", "[proxy]") {
  const oci::Algorithm algorithm = GENERATE(oci::Algorithm::sha512, oci::Algorithm::sha384);
  const std::size_t size = GENERATE(1'000, 300'000);  // from memory, and by sendfile
  Fixture cache;
  const std::string blob = content(size);
  const oci::Digest canonical = sha256_of(blob);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, algorithm);

  const Response cold = get(cache.port(), blob_path("library/app", other));
  CHECK((cold.body == blob));
  CHECK(cold.field("docker-content-digest") == other.to_string());
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(canonical));
  CHECK_FALSE(cache.store().find(other));
  CHECK(files(cache) == 1);
  const std::size_t asked = cache.hub().seen().all();

  const Response warm = get(cache.port(), blob_path("library/app", other));
  CHECK((warm.body == blob));
  // Clients hold this name against the one that they have asked for.
  CHECK(warm.field("docker-content-digest") == other.to_string());
  CHECK(warm.field("etag") == quoted(other));
  CHECK(warm.field("content-length") == std::to_string(size));
  // Upstream has given the bytes out for this repository, whatever they are called.
  CHECK((get(cache.port(), blob_path("library/app", canonical)).body == blob));
  const Response known = head(cache.port(), blob_path("library/app", other));
  CHECK(known.field("docker-content-digest") == other.to_string());
  CHECK(known.field("etag") == quoted(other));
  CHECK(known.field("content-length") == std::to_string(size));
  CHECK(cache.hub().seen().all() == asked);

  // Ranges and conditions, by the entity tag of either.
  for (const oci::Digest& tag : {canonical, other}) {
    for (const std::string method : {"GET", "HEAD"}) {
      const Response unchanged =
          fetch(cache.port(), method, blob_path("library/app", other), {{"If-None-Match", quoted(tag)}});
      CHECK(unchanged.status == 304);
      CHECK(unchanged.field("docker-content-digest") == other.to_string());
      CHECK(unchanged.field("etag") == quoted(other));
    }
    const Response part =
        get(cache.port(), blob_path("library/app", other), {{"Range", "bytes=10-19"}, {"If-Range", quoted(tag)}});
    CHECK(part.status == 206);
    CHECK(part.body == blob.substr(10, 10));
    CHECK(part.field("docker-content-digest") == other.to_string());
    const Response parts =
        get(cache.port(), blob_path("library/app", other), {{"Range", "bytes=10-19,0-0"}, {"If-Range", quoted(tag)}});
    CHECK(parts.status == 206);
    CHECK(parts.field("docker-content-digest") == other.to_string());
  }
  CHECK(get(cache.port(), blob_path("library/app", other), {{"Range", "bytes=10-19"}, {"If-Range", "\"x\""}}).status ==
        200);
  // Another repository has its own word from upstream, under either name.
  CHECK(get(cache.port(), blob_path("library/other", other)).status == 404);
  CHECK(get(cache.port(), blob_path("library/other", canonical)).status == 404);
}

TEST_CASE("Names: known by one name, the other costs no download, once the bytes have been looked at", "[proxy]") {
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest canonical = cache.hub().add_blob("library/app", blob);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
  cache.hub().claim(other, canonical);
  REQUIRE((get(cache.port(), blob_path("library/app", canonical)).body == blob));
  REQUIRE(cache.wait_idle());

  const Response response = get(cache.port(), blob_path("library/app", other));
  CHECK((response.body == blob));
  CHECK(response.field("docker-content-digest") == other.to_string());
  CHECK(cache.hub().seen().downloads == 1);
  CHECK(cache.metric("sluice_blob_names_total", {{"result", "verified"}}) == 1);
  CHECK((get(cache.port(), blob_path("library/app", other)).body == blob));
  CHECK(cache.hub().seen().blob_heads == 1);
  CHECK(files(cache) == 1);
}

TEST_CASE("Names: upstream's word alone gives no other bytes", "[proxy]") {
  Fixture cache;
  const std::string secret = content(100'000, 1);
  const std::string blob = content(100'000, 2);
  const oci::Digest secret_digest = cache.hub().add_blob("private/app", secret);
  REQUIRE((get(cache.port(), blob_path("private/app", secret_digest)).body == secret));
  REQUIRE(cache.wait_idle());

  // quay says that its sha512 is what lies here for another repository of another upstream.
  const oci::Digest other = cache.quay().add_blob("evil/app", blob, oci::Algorithm::sha512);
  cache.quay().claim(other, secret_digest);
  const Response told = head(cache.port(), blob_path("quay.io/evil/app", other));
  CHECK(told.field("docker-content-digest") == other.to_string());
  const Response response = get(cache.port(), blob_path("quay.io/evil/app", other));
  CHECK((response.body == blob));
  CHECK(cache.metric("sluice_blob_names_total", {{"result", "refuted"}}) == 1);
  REQUIRE(cache.wait_idle());
  CHECK((get(cache.port(), blob_path("quay.io/evil/app", other)).body == blob));
  CHECK(get(cache.port(), blob_path("quay.io/evil/app", secret_digest)).status == 404);

  // And one that gives out nothing of its own gets nothing of others'.
  const oci::Digest forged = oci::digest_of(oci::Algorithm::sha512, "forged");
  cache.quay().add_wrong_blob("evil/app", forged, secret);
  cache.quay().claim(forged, secret_digest);
  for (int i = 0; i < 3; ++i) {
    const Response refused = get(cache.port(), blob_path("quay.io/evil/app", forged));
    CHECK_FALSE((refused.complete && refused.status == 200));
    REQUIRE(cache.wait_idle());
  }
  // The file was hashed once, not for each request.
  CHECK(cache.metric("sluice_blob_names_total", {{"result", "refuted"}}) == 2);
}

TEST_CASE("Names: an upstream whose claims are false is not believed for a while", "[proxy][doors]") {
  constexpr std::size_t kNames = 12;
  Fixture cache;
  const std::string stored = content(100'000, 1);
  const oci::Digest victim = cache.hub().add_blob("library/app", stored);
  REQUIRE((get(cache.port(), blob_path("library/app", victim)).body == stored));
  REQUIRE(cache.wait_idle());
  const auto add_false = [&](std::size_t i) {
    const oci::Digest name = oci::digest_of(oci::Algorithm::sha512, std::to_string(i));
    cache.quay().add_wrong_blob("evil/app", name, "x");
    cache.quay().plan(name, {.refuse = Error{Errc::blob_unknown, "no"}});
    cache.quay().claim(name, victim);
    return blob_path("quay.io/evil/app", name);
  };
  const auto refuted = [&] { return cache.metric("sluice_blob_names_total", {{"result", "refuted"}}); };
  std::atomic<std::size_t> reads{0};
  cache.filesystem().set_rule([&reads](runtime::FaultyFilesystem::Operation operation, const std::filesystem::path&) {
    reads += operation == runtime::FaultyFilesystem::Operation::read_at ? 1 : 0;
    return 0;
  });

  // All at once.
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < kNames; ++i) {
    clients.push_back(std::make_unique<Client>(cache.port()));
    clients.back()->send("GET", add_false(i));
  }
  for (const auto& client : clients) CHECK(client->read_head().status == 404);
  CHECK(refuted() == 3);
  // One piece for each: what does not have the digest that was asked for need not be held against its own.
  CHECK(reads == 3);

  // What others say of the same blob is looked at.
  const oci::Digest other = cache.hub().add_blob("library/app", stored, oci::Algorithm::sha512);
  cache.hub().claim(other, victim);
  CHECK((get(cache.port(), blob_path("library/app", other)).body == stored));
  CHECK(cache.metric("sluice_blob_names_total", {{"result", "verified"}}) == 1);

  cache.clock().advance(11min);
  CHECK(get(cache.port(), add_false(kNames)).status == 404);
  CHECK(refuted() == 4);
  cache.filesystem().set_rule(nullptr);
}

TEST_CASE("Names: bytes that do not have the sha512 that they were asked by are never kept", "[proxy]") {
  Fixture cache;
  const oci::Digest other = oci::digest_of(oci::Algorithm::sha512, "what it should be");
  const std::string wrong = content(100'000);
  cache.hub().add_wrong_blob("library/app", other, wrong);
  const Response response = get(cache.port(), blob_path("library/app", other));
  CHECK_FALSE(response.complete);
  REQUIRE(cache.wait_idle());
  CHECK_FALSE(cache.store().find(sha256_of(wrong)));
  CHECK(files(cache) == 0);
}

TEST_CASE("Names: one fill for both, once they are known", "[proxy]") {
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest canonical = cache.hub().add_blob("library/app", blob);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
  REQUIRE((get(cache.port(), blob_path("library/app", other)).body == blob));
  REQUIRE(cache.wait_idle());
  const bool by_other_first = GENERATE(true, false);
  // Evicted; its names are still known.
  std::filesystem::remove_all(cache.store().layout().blobs() / "sha256");
  const std::size_t downloads = cache.hub().seen().downloads;
  const oci::Digest first = by_other_first ? other : canonical;
  const oci::Digest second = by_other_first ? canonical : other;
  cache.hub().hold(first, 1000);
  Client starter(cache.port());
  starter.send("GET", blob_path("library/app", first));
  Response started = starter.read_head();
  REQUIRE(started.status == 200);
  Client joiner(cache.port());
  joiner.send("GET", blob_path("library/app", second));
  Response joined = joiner.read_head();
  REQUIRE(joined.status == 200);
  cache.hub().release(first);
  starter.read_rest(started);
  joiner.read_rest(joined);
  CHECK((started.body == blob));
  CHECK((joined.body == blob));
  CHECK(cache.hub().seen().downloads == downloads + 1);
  REQUIRE(cache.wait_idle());
  CHECK(files(cache) == 1);
}

TEST_CASE("Names: they survive a restart", "[proxy]") {
  TempDirectory directory;
  const std::string blob = content(300'000);
  oci::Digest other;
  {
    Fixture cache({.data = directory.path() / "data"});
    other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
    REQUIRE((get(cache.port(), blob_path("library/app", other)).body == blob));
    REQUIRE(cache.wait_idle());
  }
  Fixture cache({.data = directory.path() / "data"});
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "down"});
  const Response response = get(cache.port(), blob_path("library/app", other));
  CHECK((response.body == blob));
  CHECK(response.field("docker-content-digest") == other.to_string());
}

TEST_CASE("Names: what is taken out by one name is taken out by both", "[proxy]") {
  Fixture cache({.delete_enabled = true});
  const std::string blob = content(300'000);
  const oci::Digest canonical = cache.hub().add_blob("library/app", blob);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
  REQUIRE((get(cache.port(), blob_path("library/app", other)).body == blob));
  REQUIRE(cache.wait_idle());
  const oci::Digest asked = GENERATE(true, false) ? other : canonical;
  CHECK(fetch(cache.port(), "DELETE", blob_path("library/app", asked)).status == 202);
  const auto scope = descriptors::Scope::repository("docker.io/library/app").value();
  CHECK(cache.store().catalog().members(scope).empty());
  CHECK(files(cache) == 0);
  cache.hub().fail_all(Error{Errc::upstream_unreachable, "down"});
  for (const oci::Digest& name : {canonical, other}) {
    CHECK(get(cache.port(), blob_path("library/app", name)).status == 502);
  }
}

TEST_CASE("Names: a cold blob answers HEAD by the name that was asked for, whatever upstream calls it", "[proxy]") {
  Fixture cache;
  const std::string blob = content(300'000);
  const oci::Digest canonical = cache.hub().add_blob("library/app", blob);
  const oci::Digest other = cache.hub().add_blob("library/app", blob, oci::Algorithm::sha512);
  cache.hub().claim(other, canonical);
  const Response response = head(cache.port(), blob_path("library/app", other));
  CHECK(response.status == 200);
  CHECK(response.field("docker-content-digest") == other.to_string());
  CHECK(response.field("etag") == quoted(other));
  CHECK(cache.hub().seen().downloads == 0);
}

TEST_CASE("Names: a manifest keeps the name that it was asked for, or that upstream says", "[proxy]") {
  Fixture cache;
  const std::string type(oci::media_type::kOciManifest);
  const oci::Digest other =
      cache.hub().add_manifest("library/app", "latest", image_manifest(1, type), type, oci::Algorithm::sha512);
  const std::string first = GENERATE("HEAD", "GET");
  const std::string path = manifest_path("library/app", GENERATE_COPY(std::string("latest"), other.to_string()));
  // Cold and warm.
  for (const std::string& method : {first, std::string("GET"), std::string("HEAD"), std::string("GET")}) {
    const Response response = fetch(cache.port(), method, path);
    CHECK(response.status == 200);
    CHECK(response.field("docker-content-digest") == other.to_string());
    CHECK(response.field("etag") == quoted(other));
  }
  CHECK(cache.hub().seen().manifest_gets == 1);
  CHECK(get(cache.port(), path, {{"If-None-Match", quoted(other)}}).status == 304);
}

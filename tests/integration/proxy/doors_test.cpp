// Who may read what: attacks on what is at rest, through manifests, other upstreams, and outages.
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include <nlohmann/json.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/scripted_origin.hpp"
#include "upstream/urgency.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const Fields kAlice{{"Authorization", "Bearer alice"}};
const Fields kMallory{{"Authorization", "Bearer mallory"}};

nlohmann::json descriptor(const oci::Digest& digest, std::uint64_t size, const std::string& media_type) {
  return {{"mediaType", media_type}, {"size", size}, {"digest", digest.to_string()}};
}

std::string manifest_of(const nlohmann::json& config, const std::vector<nlohmann::json>& layers) {
  return nlohmann::json{{"schemaVersion", 2}, {"mediaType", kOciManifest}, {"config", config}, {"layers", layers}}
      .dump();
}

// quay.io with each client's own login. alice has pulled a private layer; mallory may push to a repository of her own,
// where the registry lets her name whatever she likes.
struct TwoTeams {
  explicit TwoTeams(std::filesystem::path data = {})
      : cache({.data = std::move(data), .quay_passthrough = access::Passthrough{60s}}) {
    cache.quay().allow("Bearer alice", "secret/app");
    cache.quay().allow("Bearer mallory", "mallory/app");
    layer = cache.quay().add_blob("secret/app", bytes);
    REQUIRE((get(cache.port(), blob_path("quay.io/secret/app", layer), kAlice).body == bytes));
    REQUIRE(cache.wait_idle());
  }

  const std::string bytes = content(300'000);
  Fixture cache;
  oci::Digest layer;
};

}  // namespace

TEST_CASE("Doors: a manifest opens no blob that its repository was never asked about", "[proxy][doors]") {
  TwoTeams teams;
  Fixture& cache = teams.cache;
  const std::string own = content(500, 7);
  const oci::Digest own_digest = cache.quay().add_blob("mallory/app", own);
  const std::string layer_type(oci::media_type::kOciLayerGzip);
  const nlohmann::json harmless = descriptor(own_digest, own.size(), layer_type);
  const std::size_t size = teams.bytes.size();
  std::string manifest;
  SECTION("named as a layer") {
    manifest = manifest_of(descriptor(own_digest, own.size(), std::string(oci::media_type::kOciConfig)),
                           {harmless, descriptor(teams.layer, size, layer_type)});
  }
  SECTION("named as the configuration") {
    manifest = manifest_of(descriptor(teams.layer, size, std::string(oci::media_type::kOciConfig)), {harmless});
  }
  SECTION("named as an artifact's configuration") {
    manifest = manifest_of(descriptor(teams.layer, size, "application/vnd.example.thing+json"), {harmless});
  }
  SECTION("named as what is not distributed, in other letters") {
    manifest = manifest_of(
        harmless, {descriptor(teams.layer, size, "application/vnd.oci.image.layer.NonDistributable.v1.tar+gzip")});
  }
  cache.quay().add_manifest("mallory/app", "x", manifest, kOciManifest);
  REQUIRE(get(cache.port(), manifest_path("quay.io/mallory/app", "x"), kMallory).body == manifest);
  const std::string path = blob_path("quay.io/mallory/app", teams.layer);
  for (int i = 0; i < 2; ++i) {
    CHECK(get(cache.port(), path, kMallory).status == 404);
    CHECK(head(cache.port(), path, kMallory).status == 404);
    CHECK(get(cache.port(), path, {kMallory.front(), {"Range", "bytes=0-99"}}).status == 404);
  }
  // Nor when upstream cannot be asked.
  cache.clock().advance(30s);
  cache.quay().fail_all(Error{Errc::upstream_failed, "upstream: 500"});
  CHECK(get(cache.port(), path, kMallory).status == 502);
  CHECK(cache.quay().seen().downloads == 1);
}

TEST_CASE("Doors: where rules keep repositories apart a manifest opens nothing", "[proxy][doors]") {
  Fixture cache;
  const std::string bytes = content(300'000);
  const oci::Digest layer = cache.hub().add_blob("secret/app", bytes);
  REQUIRE((get(cache.port(), blob_path("secret/app", layer)).body == bytes));
  REQUIRE(cache.wait_idle());
  const std::string manifest = image_manifest(layer, bytes.size(), layer, bytes.size(), kOciManifest);
  cache.hub().add_manifest("evil/app", "x", manifest, kOciManifest);
  const bool before_the_rule = GENERATE(false, true);
  if (before_the_rule) {
    // Every client may read secret/app then, so there is nothing to gain.
    REQUIRE(get(cache.port(), manifest_path("evil/app", "x")).status == 200);
    CHECK((get(cache.port(), blob_path("evil/app", layer)).body == bytes));
    CHECK(cache.hub().seen().blob_heads == 0);
  }
  cache.rules().set({{}, {"docker.io/secret/**"}});
  CHECK(get(cache.port(), manifest_path("evil/app", "x")).status == 200);
  CHECK(get(cache.port(), blob_path("secret/app", layer)).status == 403);
  CHECK(get(cache.port(), blob_path("evil/app", layer)).status == 404);
}

TEST_CASE("Doors: what a manifest said of an open upstream counts no more when it is not open", "[proxy][doors]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const std::string bytes = content(300'000);
  oci::Digest layer;
  {
    Fixture cache({.data = data});
    layer = cache.quay().add_blob("secret/app", bytes);
    const std::string manifest = image_manifest(layer, bytes.size(), layer, bytes.size(), kOciManifest);
    cache.quay().add_manifest("mallory/app", "x", manifest, kOciManifest);
    REQUIRE((get(cache.port(), blob_path("quay.io/secret/app", layer)).body == bytes));
    REQUIRE(get(cache.port(), manifest_path("quay.io/mallory/app", "x")).status == 200);
    REQUIRE(cache.wait_idle());
  }
  Fixture cache({.data = data, .quay_passthrough = access::Passthrough{60s}});
  cache.quay().allow("Bearer mallory", "mallory/app");
  cache.quay().add_manifest("mallory/app", "x", "{}", kOciManifest);  // so that she is let in there
  CHECK(head(cache.port(), manifest_path("quay.io/mallory/app", "x"), kMallory).status != 401);
  CHECK(get(cache.port(), blob_path("quay.io/mallory/app", layer), kMallory).status == 404);
}

TEST_CASE("Doors: a shared layer costs a repository one HEAD for each descriptors.ttl, ahead", "[proxy][doors]") {
  constexpr std::size_t kShared = 6;
  Fixture cache({.descriptor_ttl = 24h, .quay_passthrough = access::Passthrough{60s}});
  const std::string layer_type(oci::media_type::kOciLayerGzip);
  std::vector<nlohmann::json> base;
  std::vector<oci::Digest> digests;
  const auto add_image = [&](const std::string& repository, unsigned number) {
    const std::string config = content(1000, 100 + number);
    const oci::Digest config_digest = cache.quay().add_blob(repository, config);
    std::vector<nlohmann::json> layers;
    digests.assign(1, config_digest);
    for (unsigned i = 0; i < kShared; ++i) {
      const std::string layer = content(20'000, 10 + i);
      digests.push_back(cache.quay().add_blob(repository, layer));
      layers.push_back(descriptor(digests.back(), layer.size(), layer_type));
    }
    cache.quay().allow("Bearer alice", repository);
    cache.quay().add_manifest(
        repository, "v1",
        manifest_of(descriptor(config_digest, config.size(), std::string(oci::media_type::kOciConfig)), layers),
        kOciManifest);
  };
  const auto pull = [&](const std::string& repository) {
    REQUIRE(get(cache.port(), manifest_path("quay.io/" + repository, "v1"), kAlice).status == 200);
    for (const oci::Digest& digest : digests) {
      CHECK(get(cache.port(), blob_path("quay.io/" + repository, digest), kAlice).status == 200);
    }
    REQUIRE(cache.wait_idle());
  };
  add_image("team/a", 1);
  pull("team/a");
  CHECK(cache.quay().seen().blob_heads == 0);  // fetching them has told
  CHECK(cache.quay().seen().downloads == 1 + kShared);

  // The manifest, and before anybody asks for a layer upstream's word on each is noted.
  const auto scope = *descriptors::Scope::repository("quay.io/team/b");
  const auto ask_ahead = [&](std::size_t from) {
    const Clock::Wall now = cache.clock().wall();
    REQUIRE(get(cache.port(), manifest_path("quay.io/team/b", "v1"), kAlice).status == 200);
    const auto is_noted = [&](const oci::Digest& digest) {
      const auto membership = cache.store().catalog().membership(scope, digest);
      return membership && membership->checked_at >= now;
    };
    const auto give_up = std::chrono::steady_clock::now() + 20s;
    while (!std::all_of(digests.begin() + static_cast<std::ptrdiff_t>(from), digests.end(), is_noted) &&
           std::chrono::steady_clock::now() < give_up) {
      std::this_thread::sleep_for(1ms);
    }
  };
  add_image("team/b", 2);
  ask_ahead(1);  // its own configuration has to be fetched
  CHECK(cache.quay().seen().blob_heads == kShared);
  pull("team/b");
  pull("team/b");
  CHECK(cache.quay().seen().blob_heads == kShared);
  CHECK(cache.quay().seen().downloads == 2 + kShared);
  cache.clock().advance(25h);
  ask_ahead(0);
  pull("team/b");
  pull("team/b");
  CHECK(cache.quay().seen().blob_heads == 2 * kShared + 1);  // its own configuration as well
}

TEST_CASE("Doors: what is sent in place of a blob lets nobody in", "[proxy][doors]") {
  const std::string type =
      GENERATE("application/json", "text/html", "application/xhtml+xml", "application/octet-stream");
  const bool told = GENERATE(true, false);
  const bool arrives = GENERATE(false, true);
  CAPTURE(type, told, arrives);
  const std::string blob = content(300'000);
  ScriptedOrigin origin;
  const std::string digest = origin.add_blob("library/private", blob);
  const auto line = std::make_shared<Gate>(1000);
  origin.respond(ScriptedOrigin::blob_path("library/private", digest), [&](const Request& request) {
    Reply reply = origin.regular(request);
    if (request.method == "GET" && arrives) reply.gate = line;
    return reply;
  });
  origin.respond(ScriptedOrigin::blob_path("library/other", digest), [&](const Request&) {
    Reply reply;
    reply.body = R"({"error":"login"})";
    reply.fields = {{"Content-Type", type}};
    reply.framing = told ? Framing::content_length : Framing::chunked;
    reply.ranges = false;
    return reply;
  });
  Fixture cache({.origin_url = origin.url(), .origin_patience = 20s});
  const auto path = [&](const std::string& of) { return "/v2/origin.test/library/" + of + "/blobs/" + digest; };
  Client owner(cache.port());
  owner.send("GET", path("private"));
  Response mine = owner.read_head();
  if (!arrives) {
    owner.read_rest(mine);
    REQUIRE(mine.complete);
    REQUIRE(cache.wait_idle());
  }
  // The second time as well: what was said is not remembered.
  for (int round = 0; round < 2; ++round) {
    // Of what is not at rest a HEAD says what upstream says.
    if (told || !arrives) CHECK(head(cache.port(), path("other")).status != 200);
    const Response theirs = get(cache.port(), path("other"));
    CHECK(theirs.status != 200);
    CHECK(theirs.body.find(blob.substr(0, 100)) == std::string::npos);
    const Response part = get(cache.port(), path("other"), {{"Range", "bytes=10-109"}});
    CHECK(part.status != 206);
  }
  line->open();
  if (arrives) owner.read_rest(mine);
  CHECK((mine.body == blob));
}

TEST_CASE("Doors: who could join a download is not let in to what it has stored", "[proxy][doors]") {
  const std::string blob = content(300'000);
  ScriptedOrigin origin;
  const std::string digest = origin.add_blob("library/private", blob);
  const auto line = std::make_shared<Gate>(1000);
  origin.respond(ScriptedOrigin::blob_path("library/private", digest), [&](const Request& request) {
    Reply reply = origin.regular(request);
    if (request.method == "GET") reply.gate = line;
    return reply;
  });
  // More than is looked at where there is nothing to compare it with, and no length.
  origin.respond(ScriptedOrigin::blob_path("library/other", digest), [](const Request&) {
    Reply reply;
    reply.body = content(200'000, 2);
    reply.framing = Framing::chunked;
    reply.ranges = false;
    return reply;
  });
  Fixture cache({.origin_url = origin.url(), .origin_patience = 20s});
  const auto path = [&](const std::string& of) { return "/v2/origin.test/library/" + of + "/blobs/" + digest; };
  Client owner(cache.port());
  owner.send("GET", path("private"));
  Response mine = owner.read_head();
  Client other(cache.port());
  other.send("GET", path("other"));
  Response theirs = other.read_head();
  CHECK(theirs.status == 200);
  line->open();
  owner.read_rest(mine);
  other.read_rest(theirs);
  CHECK((mine.body == blob));
  REQUIRE(cache.wait_idle());
  for (int round = 0; round < 2; ++round) {
    const Response again = get(cache.port(), path("other"));
    CHECK(again.status == 502);
    CHECK(again.body.find(blob.substr(0, 100)) == std::string::npos);
  }
}

TEST_CASE("Doors: what is asked about ahead comes a few at a time, behind others, until it is wanted",
          "[proxy][doors]") {
  constexpr std::size_t kLayers = 40;
  constexpr std::size_t kAtOnce = 4;
  Fixture cache;
  cache.rules().set({{}, {"docker.io/secret/**"}});
  std::vector<oci::Digest> layers;
  std::vector<nlohmann::json> named;
  for (unsigned i = 0; i < kLayers; ++i) {
    const std::string bytes = content(1000, 10 + i);
    layers.push_back(cache.hub().add_blob("team/a", bytes));
    cache.hub().add_blob("team/b", bytes);
    named.push_back(descriptor(layers.back(), bytes.size(), std::string(oci::media_type::kOciLayerGzip)));
  }
  const oci::Digest config = cache.hub().add_blob("team/b", "{}");
  const std::string text = manifest_of(descriptor(config, 2, std::string(oci::media_type::kOciConfig)), named);
  const oci::Digest manifest = cache.hub().add_manifest("team/b", "v1", text, kOciManifest);
  // Nothing that it names is here yet, so nothing is asked.
  REQUIRE(get(cache.port(), manifest_path("team/b", manifest)).status == 200);
  for (const oci::Digest& layer : layers) REQUIRE(get(cache.port(), blob_path("team/a", layer)).status == 200);
  REQUIRE(cache.wait_idle());
  cache.clock().advance(11min);  // it is looked at again
  REQUIRE(cache.hub().seen().blob_heads == 0);

  cache.hub().hold_questions();
  REQUIRE(get(cache.port(), manifest_path("team/b", manifest)).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads == kAtOnce; }));
  // Somebody wants one that has not been asked about yet,
  Client other(cache.port());
  other.send("GET", blob_path("team/b", layers.back()));
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads > kAtOnce; }));
  CHECK(cache.hub().seen().blob_heads == kAtOnce + 1);
  const auto ahead = cache.hub().seen().urgencies;
  const auto raised = [&ahead] {
    return std::count_if(ahead.begin(), ahead.end(), [](const auto& urgency) { return urgency->raised(); });
  };
  REQUIRE(ahead.size() == kAtOnce);
  CHECK(raised() == 0);
  // and one that has been: that question is no other one's from now on.
  Client joined(cache.port());
  joined.send("GET", blob_path("team/b", layers.front()));
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (raised() == 0 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  CHECK(raised() == 1);
  CHECK(cache.hub().seen().blob_heads == kAtOnce + 1);

  cache.hub().let_questions();
  CHECK(other.read_response().status == 200);
  CHECK(joined.read_response().status == 200);
  CHECK(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads == kLayers; }));
}

TEST_CASE("Doors: a question ahead that failed does not decide the answer of who has joined it", "[proxy][doors]") {
  Fixture cache;
  cache.rules().set({{}, {"docker.io/secret/**"}});
  const std::string bytes = content(1000);
  const oci::Digest layer = cache.hub().add_blob("team/a", bytes);
  cache.hub().add_blob("team/b", bytes);
  const oci::Digest config = cache.hub().add_blob("team/b", "{}");
  const oci::Digest manifest = cache.hub().add_manifest(
      "team/b", "v1", image_manifest(config, 2, layer, bytes.size(), kOciManifest), kOciManifest);
  REQUIRE(get(cache.port(), manifest_path("team/b", manifest)).status == 200);
  REQUIRE(get(cache.port(), blob_path("team/a", layer)).status == 200);
  REQUIRE(cache.wait_idle());
  cache.clock().advance(11min);
  cache.hub().hold_questions();
  REQUIRE(get(cache.port(), manifest_path("team/b", manifest)).status == 200);
  REQUIRE(cache.hub().wait_until([](const auto& seen) { return seen.urgencies.size() == 1 && seen.blob_heads == 1; }));
  const auto ahead = cache.hub().seen().urgencies.front();
  Client client(cache.port());
  client.send("GET", blob_path("team/b", layer));
  const auto until = std::chrono::steady_clock::now() + 20s;
  while (!ahead->raised() && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  REQUIRE(ahead->raised());
  // That one is not told.
  cache.hub().fail_all(Error{Errc::upstream_timeout, "too late"});
  cache.hub().let_questions();
  CHECK(client.read_response().status == 504);
  CHECK(cache.hub().wait_until([](const auto& seen) { return seen.blob_heads == 2; }));
  // Nor was it an outage for what is known.
  cache.hub().fail_all(std::nullopt);
  CHECK(get(cache.port(), blob_path("team/b", layer)).status == 200);
}

// ------------------------------------------------------------------------------------------ one upstream and another

TEST_CASE("Doors: one upstream's word does not open what came through another with a login", "[proxy][doors]") {
  Fixture cache;
  const std::string secret = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("team/app", secret);
  cache.hub().set_login(true);
  REQUIRE((get(cache.port(), blob_path("team/app", digest)).body == secret));
  REQUIRE(cache.wait_idle());
  // It says 200 to every HEAD, and has bytes of its own.
  cache.quay().add_wrong_blob("evil/app", digest, std::string(secret.size(), 'x'));
  const std::string path = blob_path("quay.io/evil/app", digest);
  CHECK(head(cache.port(), path).status == 200);
  for (const Fields& fields : {Fields{}, Fields{{"Range", "bytes=0-99"}}, Fields{{"Range", "bytes=200000-"}}}) {
    const Response response = get(cache.port(), path, fields);
    CHECK(response.body.find_first_not_of('x') == std::string::npos);
    CHECK((fields.empty() ? !response.complete : true));
    REQUIRE(cache.wait_idle());
  }
  // The owner has lost nothing.
  CHECK((get(cache.port(), blob_path("team/app", digest)).body == secret));
  CHECK(cache.hub().seen().downloads == 1);
}

TEST_CASE("Doors: an upstream that delivers the bytes itself shares the file from then on", "[proxy][doors]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const std::string bytes = content(300'000);
  oci::Digest digest;
  const std::string path = "quay.io/team/app";
  {
    Fixture cache({.data = data});
    digest = cache.hub().add_blob("team/app", bytes);
    cache.hub().set_login(true);
    cache.quay().set_login(true);
    REQUIRE((get(cache.port(), blob_path("team/app", digest)).body == bytes));
    REQUIRE(cache.wait_idle());
    cache.quay().add_blob("team/app", bytes);
    CHECK((get(cache.port(), blob_path(path, digest)).body == bytes));
    REQUIRE(cache.wait_idle());
    CHECK(cache.quay().seen().downloads == 1);
    CHECK(cache.incoming_files() == 0);
    CHECK(cache.store().entries() == 1);
    for (const std::string& repository : {std::string("team/app"), path}) {
      CHECK((get(cache.port(), blob_path(repository, digest)).body == bytes));
    }
    CHECK(cache.quay().seen().downloads == 1);
    CHECK(cache.hub().seen().downloads == 1);
  }
  // The same after a restart, and still nobody else's.
  Fixture cache({.data = data});
  cache.hub().add_wrong_blob("evil/app", digest, bytes);
  cache.quay().add_blob("team/app", bytes);
  for (const std::string& repository : {std::string("team/app"), path}) {
    CHECK((get(cache.port(), blob_path(repository, digest)).body == bytes));
  }
  CHECK(cache.hub().seen().downloads + cache.quay().seen().downloads == 0);
  CHECK(cache.store().find(digest, "docker.io"));
  CHECK(cache.store().find(digest, "quay.io"));
  CHECK_FALSE(cache.store().find(digest, "ghcr.io"));
}

TEST_CASE("Doors: what was fetched without a login is one file for all upstreams", "[proxy][doors]") {
  Fixture cache;
  const std::string bytes = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", bytes);
  cache.quay().add_blob("team/app", bytes);
  cache.quay().set_login(true);
  REQUIRE((get(cache.port(), blob_path("library/app", digest)).body == bytes));
  REQUIRE(cache.wait_idle());
  CHECK((get(cache.port(), blob_path("quay.io/team/app", digest)).body == bytes));
  CHECK(cache.quay().seen().downloads == 0);
  CHECK(cache.quay().seen().blob_heads == 1);
}

TEST_CASE("Doors: a manifest that came with a login is not given out on another upstream's word", "[proxy][doors]") {
  Fixture cache;
  const std::string manifest = image_manifest(1, kOciManifest);
  const oci::Digest digest = cache.hub().add_manifest("team/app", "v1", manifest, kOciManifest);
  cache.hub().set_login(true);
  REQUIRE(get(cache.port(), manifest_path("team/app", "v1")).body == manifest);
  // HEADs of the tag and of the digest say what mallory likes; the bytes she has not.
  cache.quay().add_manifest("evil/app", "x", manifest, kOciManifest);
  cache.quay().spoil(digest, true);
  REQUIRE(head(cache.port(), manifest_path("quay.io/evil/app", "x")).status == 200);
  for (int i = 0; i < 2; ++i) {
    for (const std::string& reference : {std::string("x"), digest.to_string()}) {
      const Response response = get(cache.port(), manifest_path("quay.io/evil/app", reference));
      CHECK(response.body.find(manifest) == std::string::npos);
      CHECK(response.status == 502);
    }
  }
  // One that has them is believed from then on.
  cache.quay().spoil(digest, false);
  CHECK(get(cache.port(), manifest_path("quay.io/evil/app", "x")).body == manifest);
  const std::size_t gets = cache.quay().seen().manifest_gets;
  CHECK(get(cache.port(), manifest_path("quay.io/evil/app", digest)).body == manifest);
  CHECK(cache.quay().seen().manifest_gets == gets);
}

TEST_CASE("Doors: a lost catalog opens nothing", "[proxy][doors]") {
  TempDirectory directory;
  const std::filesystem::path data = directory.path() / "data";
  const std::string secret = content(300'000);
  const std::string known = content(300'000, 2);
  oci::Digest private_digest;
  oci::Digest public_digest;
  {
    Fixture cache({.data = data});
    private_digest = cache.hub().add_blob("team/app", secret);
    public_digest = cache.quay().add_blob("team/app", known);
    cache.hub().set_login(true);
    REQUIRE((get(cache.port(), blob_path("team/app", private_digest)).body == secret));
    REQUIRE((get(cache.port(), blob_path("quay.io/team/app", public_digest)).body == known));
    REQUIRE(cache.wait_idle());
  }
  for (const char* const file : {"catalog.db", "catalog.db-wal", "catalog.db-shm"}) {
    std::filesystem::remove(data / file);
  }
  Fixture cache({.data = data});
  cache.hub().set_login(true);
  cache.hub().add_blob("team/app", secret);
  cache.quay().add_blob("team/app", known);
  cache.quay().add_wrong_blob("evil/app", private_digest, std::string(secret.size(), 'x'));
  REQUIRE(cache.store().entries() == 2);
  const Response stolen = get(cache.port(), blob_path("quay.io/evil/app", private_digest));
  CHECK(stolen.body.find_first_not_of('x') == std::string::npos);
  // What anybody may have needs no second download; what came with a login is proven once more.
  CHECK((get(cache.port(), blob_path("quay.io/team/app", public_digest)).body == known));
  CHECK(cache.quay().seen().downloads == 1);
  for (int i = 0; i < 2; ++i) {
    CHECK((get(cache.port(), blob_path("team/app", private_digest)).body == secret));
    REQUIRE(cache.wait_idle());
  }
  CHECK(cache.hub().seen().downloads == 1);
}

// --------------------------------------------------------------------------------------------------------- outages

TEST_CASE("Doors: an outage does not tell what is cached", "[proxy][doors]") {
  const Errc outage = GENERATE(Errc::upstream_unreachable, Errc::upstream_failed, Errc::upstream_timeout,
                               Errc::throttled, Errc::overloaded);
  Fixture cache;
  const oci::Digest blob = cache.hub().add_blob("library/app", content(100'000));
  const oci::Digest manifest =
      cache.hub().add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  REQUIRE(get(cache.port(), blob_path("library/app", blob)).status == 200);
  REQUIRE(get(cache.port(), manifest_path("library/app", manifest)).status == 200);
  REQUIRE(cache.wait_idle());
  cache.hub().fail_all(Error{outage, "GET /v2/library/other/: upstream is out", 9s});
  const oci::Digest none = oci::digest_of(oci::Algorithm::sha256, "none");
  const auto ask = [&](const std::string& method, const std::string& path) {
    const std::size_t before = cache.hub().seen().all();
    Response response = fetch(cache.port(), method, path);
    CHECK(cache.hub().seen().all() == before + 1);
    std::erase_if(response.fields, [](const auto& field) { return field.first == "date"; });
    return response;
  };
  for (const std::string method : {"GET", "HEAD"}) {
    for (const bool is_blob : {true, false}) {
      const auto path = [&](const oci::Digest& digest) {
        return is_blob ? blob_path("library/other", digest) : manifest_path("library/other", digest);
      };
      const Response cached = ask(method, path(is_blob ? blob : manifest));
      const Response absent = ask(method, path(none));
      INFO(method << (is_blob ? " blob" : " manifest") << ' ' << cached.body << " / " << absent.body);
      CHECK(cached.status == absent.status);
      CHECK(cached.status >= 502);
      CHECK(cached.body == absent.body);
      CHECK(cached.field("retry-after") == "9");
      // A request's own number aside.
      const auto names = [](const Response& response) {
        std::vector<std::string> out;
        for (const auto& [name, value] : response.fields) out.push_back(name);
        return out;
      };
      CHECK(names(cached) == names(absent));
    }
  }
}

TEST_CASE("Doors: upstream is asked as often about what is cached as about what is not", "[proxy][doors]") {
  const int status = GENERATE(500, 502, 503, 504);
  ScriptedOrigin origin;
  const std::string blob = origin.add_blob("library/app", content(100'000));
  const std::string manifest =
      origin.add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  const std::string none = ScriptedOrigin::digest_of("none");
  Fixture cache({.origin_url = origin.url()});
  const std::string base = "/v2/origin.test/library/";
  REQUIRE(get(cache.port(), base + "app/blobs/" + blob).status == 200);
  REQUIRE(get(cache.port(), base + "app/manifests/" + manifest).status == 200);
  REQUIRE(cache.wait_idle());
  Reply down;
  down.status = status;
  const auto ask = [&](const std::string& method, const std::string& kind, const std::string& digest) {
    const std::string path = "/v2/library/other/" + kind + "/" + digest;
    origin.respond(path, [down](const Request&) { return down; });
    const std::size_t before = origin.count(path);
    const Response response = fetch(cache.port(), method, base + "other/" + kind + "/" + digest);
    return std::pair(response.status, origin.count(path) - before);
  };
  for (const std::string method : {"GET", "HEAD"}) {
    INFO(method << ' ' << status);
    CHECK(ask(method, "blobs", blob) == ask(method, "blobs", none));
    CHECK(ask(method, "manifests", manifest) == ask(method, "manifests", none));
  }
}

namespace {

// What who asks three times hears of a registry that is silent: status, Retry-After and text. The registry has given
// out both kinds in another repository before.
std::vector<std::string> heard_of_silence(const std::string& kind, bool is_cached) {
  ScriptedOrigin origin;
  const std::string blob = origin.add_blob("library/app", content(100'000));
  const std::string manifest =
      origin.add_manifest("library/app", "latest", image_manifest(1, kOciManifest), kOciManifest);
  Fixture cache({.origin_url = origin.url(),
                 .origin_patience = 200ms,
                 .origin_request_timeout = 600ms,
                 .origin_first_byte_timeout = 60s,
                 .tune_origin = [](upstream::HttpRegistry::Params& params) {
                   params.request_timeout = 600ms;
                   params.probe_timeout = 100ms;
                 }});
  const std::string base = "/v2/origin.test/library/";
  REQUIRE(get(cache.port(), base + "app/blobs/" + blob).status == 200);
  REQUIRE(get(cache.port(), base + "app/manifests/" + manifest).status == 200);
  REQUIRE(cache.wait_idle());
  const auto never = std::make_shared<Gate>();
  const std::string digest = is_cached ? (kind == "blobs" ? blob : manifest) : ScriptedOrigin::digest_of("none");
  origin.respond("/v2/library/other/" + kind + "/" + digest, [never](const Request&) {
    Reply reply;
    reply.head_gate = never;
    return reply;
  });
  std::vector<std::string> heard;
  for (int i = 0; i < 3; ++i) {
    const Response response = get(cache.port(), base + "other/" + kind + "/" + digest);
    std::string body = response.body;
    if (const std::size_t at = body.find(digest); at != std::string::npos) body.erase(at, digest.size());
    heard.push_back(std::to_string(response.status) + " " + response.field("retry-after") + " " + body);
  }
  never->open();
  return heard;
}

}  // namespace

TEST_CASE("Doors: a silent upstream does not tell what is cached", "[proxy][doors]") {
  const std::string kind = GENERATE("blobs", "manifests");
  INFO(kind);
  CHECK(heard_of_silence(kind, true) == heard_of_silence(kind, false));
}

TEST_CASE("Doors: only an outage of that very question lets an old membership count", "[proxy][doors]") {
  Fixture cache({.descriptor_ttl = 1h});
  const std::string first = content(100'000);
  const std::string second = content(100'000, 2);
  const oci::Digest a = cache.hub().add_blob("library/app", first);
  const oci::Digest b = cache.hub().add_blob("library/app", second);
  for (const oci::Digest& digest : {a, b}) REQUIRE(get(cache.port(), blob_path("library/app", digest)).status == 200);
  REQUIRE(cache.wait_idle());
  cache.clock().advance(2h);

  SECTION("an odd answer is not one") {
    const Errc odd = GENERATE(Errc::upstream_protocol, Errc::digest_mismatch, Errc::size_mismatch);
    cache.hub().refuse("library/app", Error{odd, "upstream: 400"});
    CHECK(get(cache.port(), blob_path("library/app", a)).status == 502);
  }
  SECTION("nor is our own overload") {
    cache.hub().refuse("library/app", Error{Errc::overloaded, "too many requests to this upstream"});
    CHECK(get(cache.port(), blob_path("library/app", a)).status == 503);
  }
  SECTION("that nobody answers about one blob says nothing about another") {
    cache.hub().refuse("library/app", Error{Errc::upstream_failed, "upstream: 500"});
    CHECK((get(cache.port(), blob_path("library/app", a)).body == first));
    CHECK(cache.hub().seen().blob_heads == 1);
    CHECK((get(cache.port(), blob_path("library/app", a)).body == first));
    CHECK(cache.hub().seen().blob_heads == 1);  // not asked the same again for a while
  }
  cache.hub().refuse("library/app", Error{Errc::denied, "upstream: denied"});
  CHECK(get(cache.port(), blob_path("library/app", b)).status == 403);
  cache.clock().advance(31s);
  CHECK(get(cache.port(), blob_path("library/app", a)).status == 403);
}

// ------------------------------------------------------------------------------------------------- unknown lengths

TEST_CASE("Ranges: a cold blob whose length upstream does not tell", "[proxy]") {
  Fixture cache({.window_bytes = 64 * 1024});
  const std::string blob = content(500'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hide_sizes(true);
  const std::string path = blob_path("library/app", digest);
  SECTION("both ends are said: a part of a length that is not known") {
    for (const bool again : {false, true}) {
      if (again) REQUIRE(cache.wait_idle());
      const Response response = get(cache.port(), path, {{"Range", "bytes=300000-300099"}});
      CHECK(response.status == 206);
      CHECK(response.field("content-range") == (again ? "bytes 300000-300099/500000" : "bytes 300000-300099/*"));
      CHECK((response.body == blob.substr(300'000, 100)));
    }
  }
  SECTION("while it is on its way, for who joins") {
    cache.hub().hold(digest, 200'000);
    Client first(cache.port());
    first.send("GET", path);
    Response whole = first.read_head();
    REQUIRE(whole.status == 200);
    const Response response = get(cache.port(), path, {{"Range", "bytes=100-299"}});
    CHECK(response.status == 206);
    CHECK(response.field("content-range") == "bytes 100-299/*");
    CHECK((response.body == blob.substr(100, 200)));
    cache.hub().release(digest);
    first.read_rest(whole);
    CHECK((whole.body == blob));
  }
  SECTION("it goes beyond the end, which is known by then") {
    const Response response = get(cache.port(), path, {{"Range", "bytes=499000-600000"}});
    CHECK(response.status == 206);
    CHECK(response.field("content-range") == "bytes 499000-499999/500000");
    CHECK((response.body == blob.substr(499'000)));
  }
  SECTION("it lies behind the end") {
    const Response response = get(cache.port(), path, {{"Range", "bytes=600000-600099"}});
    CHECK(response.status == 416);
    CHECK(response.field("content-range") == "bytes */500000");
  }
  SECTION("only the end tells where it is") {
    const bool suffix = GENERATE(false, true);
    const Response response = get(cache.port(), path, {{"Range", suffix ? "bytes=-100" : "bytes=499900-"}});
    CHECK(response.status == 206);
    CHECK(response.field("content-range") == "bytes 499900-499999/500000");
    CHECK((response.body == blob.substr(499'900)));
  }
}

// A registry of his own is all that it takes to announce a blob nearly as large as the store, and to send a byte of it.
TEST_CASE("Doors: what a registry announces makes nobody else's blobs go", "[proxy][doors]") {
  Fixture cache({.max_size = {std::uint64_t{40} << 20, 0}});
  std::vector<oci::Digest> stored;
  for (int i = 0; i < 10; ++i) {
    const std::string blob = content(3'000'000 + static_cast<std::size_t>(i));
    stored.push_back(cache.hub().add_blob("library/app", blob));
    REQUIRE(get(cache.port(), blob_path("library/app", stored.back())).complete);
  }
  REQUIRE(cache.wait_idle());
  const std::string some = content(2'000'000);
  const oci::Digest large = cache.quay().add_blob("evil/app", some);
  cache.quay().plan(large, {.announced = std::uint64_t{30} << 20});
  cache.quay().hold(large, 100'000);
  Client reader(cache.port());
  reader.send("GET", blob_path("evil/app", large) + "?ns=quay.io");
  REQUIRE(reader.read_head().status == 200);
  // The bytes that have come have their room.
  CHECK(reader.read_bytes(50'000).size() == 50'000);
  CHECK(cache.store().ledger().reserved() > 0);
  CHECK(cache.store().ledger().reserved() < 4'000'000);
  for (const oci::Digest& digest : stored) CHECK(cache.store().find(digest).has_value());
  reader.close();
  cache.quay().release(large);
}

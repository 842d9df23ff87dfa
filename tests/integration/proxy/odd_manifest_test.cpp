// Manifests that the cache has no need to understand: their digest says that the bytes are right.
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/scripted_origin.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

const std::string kOciManifest(oci::media_type::kOciManifest);
const std::string kOciIndex(oci::media_type::kOciIndex);
const std::string kSchema2(oci::media_type::kDockerSchema2);
const std::string kSigned(oci::media_type::kDockerSchema1Signed);
const std::string kVendor = "application/vnd.example.thing.v3+json";
const std::string kArtifact = "application/vnd.oci.artifact.manifest.v1+json";

const std::string kPayload = "{\n   \"schemaVersion\": 1,\n   \"fsLayers\": []\n}";

// {"formatLength":42,"formatTail":"Cn0"}
std::string signed_manifest(const std::string& signature = "xyz") {
  return kPayload.substr(0, 42) + ",\n   \"signatures\": [{\"signature\": \"" + signature +
         "\", \"protected\": \"eyJmb3JtYXRMZW5ndGgiOjQyLCJmb3JtYXRUYWlsIjoiQ24wIn0\"}]\n}";
}

struct Odd {
  std::string name;
  std::string body;
  std::string said;      // upstream's Content-Type
  std::string expected;  // ours
  std::string digest = {};
};

std::vector<Odd> odd_manifests() {
  const std::string artifact = R"({"mediaType":")" + kArtifact + R"(","artifactType":"a/b","blobs":[]})";
  const std::string image = image_manifest(1, kOciManifest);
  std::string latin = image;
  latin.insert(latin.rfind('}'), ",\"annotations\":{\"name\":\"caf\xe9\"}");
  return {
      {"an OCI artifact manifest", artifact, kArtifact, kArtifact},
      {"whose type only the body tells", artifact, "application/json", kArtifact},
      {"ORAS's", R"({"artifactType":"a/b","blobs":[]})", "application/vnd.cncf.oras.artifact.manifest.v1+json",
       "application/vnd.cncf.oras.artifact.manifest.v1+json"},
      {"a vendor's, no JSON object", "[1, 2]", kVendor + "; charset=utf-8", kVendor},
      {"of another type in the body", image_manifest(1, kSchema2), kOciManifest, kOciManifest},
      {"an index that is called an image", index_manifest(oci::digest_of(oci::Algorithm::sha256, image), image.size()),
       kOciManifest, kOciManifest},
      {"that is not UTF-8", latin, kOciManifest, kOciManifest},
      {"without a config", R"({"schemaVersion":2,"layers":[]})", kOciManifest, kOciManifest},
      // Answered from their files.
      {"large", image.substr(0, image.size() - 1) + std::string(40'000, ' ') + "}", kOciManifest, kOciManifest},
      {"large and signed", signed_manifest(std::string(40'000, 's')), kSigned, kSigned,
       ScriptedOrigin::digest_of(kPayload)},
      {"signed", signed_manifest(), kSigned, kSigned, ScriptedOrigin::digest_of(kPayload)},
  };
}

// An origin with one manifest, under a tag and its digest, and a cache in front of it.
struct Chain {
  explicit Chain(const Odd& odd) : body(odd.body), type(odd.expected), digest(odd.digest) {
    if (digest.empty()) digest = ScriptedOrigin::digest_of(body);
    Reply reply;
    reply.body = body;
    reply.fields = {{"Content-Type", odd.said}, {"Docker-Content-Digest", digest}};
    for (const std::string& reference : {std::string("latest"), digest}) {
      origin->respond(ScriptedOrigin::manifest_path("library/app", reference),
                      [reply](const Request&) { return reply; });
    }
  }

  void check(const std::string& reference, bool stale = false) {
    INFO(reference);
    const std::string path = "/v2/origin.test/library/app/manifests/" + reference;
    for (const std::string method : {"GET", "HEAD", "GET"}) {
      const Response response = fetch(cache.port(), method, path,
                                      {{"Accept", kSchema2 + ", " + kOciIndex + ", " + kOciManifest + ", " + kSigned}});
      CHECK(response.status == 200);
      if (method == "GET") CHECK(response.body == body);
      CHECK(response.field("content-type") == type);
      CHECK(response.field("content-length") == std::to_string(body.size()));
      CHECK(response.field("docker-content-digest") == digest);
      CHECK(response.field("warning").empty() != stale);
    }
  }

  std::unique_ptr<ScriptedOrigin> origin = std::make_unique<ScriptedOrigin>();
  std::string body;
  std::string type;
  std::string digest;
  Fixture cache{{.manifest_memory_bytes = 0, .origin_url = origin->url()}};
};

}  // namespace

TEST_CASE("Proxy: odd manifests are served as they are, cold, warm, aged and without upstream", "[proxy]") {
  for (const Odd& odd : odd_manifests()) {
    INFO(odd.name);
    Chain chain(odd);
    chain.check("latest");
    chain.check(chain.digest);
    const std::size_t asked = chain.origin->requests().size();
    CHECK(asked == 1);
    // Upstream's word on the tag and on the manifest has grown old.
    chain.cache.clock().advance(48h);
    chain.check("latest");
    chain.check(chain.digest);
    CHECK(chain.origin->seen().count(ScriptedOrigin::manifest_path("library/app", "latest"), "GET") == 1);
    CHECK(chain.origin->seen().count(ScriptedOrigin::manifest_path("library/app", chain.digest), "GET") == 0);
    chain.origin.reset();
    chain.check(chain.digest);
    chain.check("latest");
    chain.cache.clock().advance(48h);
    chain.check(chain.digest, true);
    chain.check("latest", true);
  }
}

TEST_CASE("Proxy: an odd manifest by digest, HEAD first", "[proxy]") {
  for (const Odd& odd : odd_manifests()) {
    INFO(odd.name);
    Chain chain(odd);
    const std::string path = "/v2/origin.test/library/app/manifests/" + chain.digest;
    const Response told = head(chain.cache.port(), path);
    CHECK(told.status == 200);
    CHECK(told.field("content-type") == chain.type);
    CHECK(told.field("content-length") == std::to_string(chain.body.size()));
    chain.check(chain.digest);
    CHECK(chain.origin->seen().count(ScriptedOrigin::manifest_path("library/app", chain.digest), "GET") == 1);
  }
}

TEST_CASE("Proxy: a signed manifest lies under the digest of all its bytes", "[proxy]") {
  std::vector<Odd> signed_ones = odd_manifests();
  signed_ones.erase(signed_ones.begin(), signed_ones.end() - 2);
  const std::size_t which = GENERATE(0U, 1U);
  const Odd odd = signed_ones[which];
  INFO(odd.name);
  Chain chain(odd);
  chain.check(chain.digest);
  const auto payload = oci::Digest::parse(chain.digest).value();
  const oci::Digest own = oci::digest_of(oci::Algorithm::sha256, chain.body);
  CHECK_FALSE(chain.cache.store().find(payload));
  CHECK(chain.cache.store().find(own));
  // A repository that has it with other signatures gets its own.
  Reply other;
  other.body = signed_manifest(std::string(which == 0 ? 40'000 : 3, 'a'));
  other.fields = {{"Content-Type", kSigned}, {"Docker-Content-Digest", chain.digest}};
  chain.origin->respond(ScriptedOrigin::manifest_path("library/other", chain.digest),
                        [other](const Request&) { return other; });
  const std::string path = "/v2/origin.test/library/other/manifests/" + chain.digest;
  for (int round = 0; round < 2; ++round) CHECK(get(chain.cache.port(), path).body == other.body);
  chain.check(chain.digest);
  // Damage is noticed, and mended from upstream.
  std::filesystem::resize_file(chain.cache.store().layout().blob(own), 10);
  chain.check(chain.digest);
  CHECK(chain.origin->seen().count(ScriptedOrigin::manifest_path("library/app", chain.digest), "GET") == 2);
}

TEST_CASE("Proxy: a signed manifest and the blob of its digest, which is its payload, are kept apart", "[proxy]") {
  ScriptedOrigin origin;
  const std::string digest = ScriptedOrigin::digest_of(kPayload);
  const auto path = [&](const std::string& repository, const std::string& kind) {
    return "/v2/" + repository + "/" + kind + "/" + digest;
  };
  const std::vector<std::pair<std::string, std::string>> repositories{{"library/app", "xyz"}, {"library/other", "abc"}};
  for (const auto& [repository, signature] : repositories) {
    Reply manifest;
    manifest.body = signed_manifest(signature);
    manifest.fields = {{"Content-Type", kSigned}, {"Docker-Content-Digest", digest}};
    origin.respond(path(repository, "manifests"), [manifest](const Request&) { return manifest; });
    Reply blob;
    blob.body = kPayload;
    blob.fields = {{"Content-Type", "application/octet-stream"}, {"Docker-Content-Digest", digest}};
    origin.respond(path(repository, "blobs"), [blob](const Request&) { return blob; });
  }
  Fixture cache({.origin_url = origin.url()});
  const auto check = [&](const std::string& method, const std::string& kind, std::size_t which) {
    const auto& [repository, signature] = repositories[which];
    INFO(method << " " << kind << " of " << repository);
    const std::string& expected = kind == "blobs" ? kPayload : signed_manifest(signature);
    const Response response = fetch(cache.port(), method, "/v2/origin.test" + path(repository, kind).substr(3));
    CHECK(response.status == 200);
    if (method == "GET") CHECK(response.body == expected);
    CHECK(response.field("content-length") == std::to_string(expected.size()));
    if (kind == "manifests") CHECK(response.field("content-type") == kSigned);
    CHECK(response.field("docker-content-digest") == digest);
    REQUIRE(cache.wait_idle());
  };
  struct Step {
    std::string kind;
    std::size_t which;
  };
  const std::vector<Step> all{{"blobs", 0}, {"blobs", 1}, {"manifests", 0}, {"manifests", 1}};
  std::vector<std::size_t> order{0, 1, 2, 3};
  // Each order once, as GET alone and with a HEAD before.
  const int wanted = GENERATE(range(0, 24));
  for (int i = 0; i < wanted; ++i) std::next_permutation(order.begin(), order.end());
  const bool heads = GENERATE(false, true);
  for (int round = 0; round < 3; ++round) {
    for (const std::size_t step : order) {
      if (heads) check("HEAD", all[step].kind, all[step].which);
      check("GET", all[step].kind, all[step].which);
    }
    if (round == 1) cache.clock().advance(48h);
  }
}

TEST_CASE("Proxy: what comes for a tag has to be a manifest by its type, its digest or its words", "[proxy]") {
  ScriptedOrigin origin;
  Reply reply;
  reply.body = R"({"error":"please log in"})";
  reply.fields = {{"Content-Type", "application/json"}};
  unsigned expected = 502;
  SECTION("none of them") {}
  SECTION("the type of an error") { reply.fields[0].second = "application/problem+json"; }
  SECTION("an error of another type") {
    reply.fields[0].second = "application/vnd.api+json";
    reply.body = R"({"errors":[{"status":"503"}]})";
  }
  SECTION("an error of a manifest's type") {
    reply.fields[0].second = kOciManifest;
    reply.body = R"({"errors":[{"code":"UNKNOWN"}]})";
  }
  SECTION("its type") {
    reply.fields[0].second = kVendor;
    expected = 200;
  }
  SECTION("its digest") {
    reply.fields.emplace_back("Docker-Content-Digest", ScriptedOrigin::digest_of(reply.body));
    expected = 200;
  }
  const std::string path = ScriptedOrigin::manifest_path("library/app", "latest");
  origin.respond(path, [reply](const Request&) { return reply; });
  Fixture cache({.origin_url = origin.url()});
  const Response response = get(cache.port(), "/v2/origin.test/library/app/manifests/latest");
  CHECK(response.status == expected);
  if (expected == 200) CHECK(response.body == reply.body);
  if (expected == 502) CHECK(error_code(response.body) == "MANIFEST_INVALID");
  if (expected == 502) CHECK(cache.store().entries() == 0);
}

TEST_CASE("Proxy: a blob of an unusual type is no manifest", "[proxy]") {
  ScriptedOrigin origin;
  Reply reply;
  reply.body = content(5000);
  reply.fields = {{"Content-Type", kVendor}};
  const std::string digest = ScriptedOrigin::digest_of(reply.body);
  origin.respond(ScriptedOrigin::blob_path("library/app", digest), [reply](const Request&) { return reply; });
  Fixture cache({.origin_url = origin.url()});
  const std::string blob = "/v2/origin.test/library/app/blobs/" + digest;
  CHECK(head(cache.port(), blob).status == 200);
  CHECK(get(cache.port(), blob).body == reply.body);
  CHECK(get(cache.port(), "/v2/origin.test/library/app/manifests/" + digest).status == 404);
}

namespace {

// A tag whose HEAD names a digest that upstream answers with 404, while its GET gives the manifest.
struct Misled {
  explicit Misled(const std::string& named) : digest(ScriptedOrigin::digest_of(body)), wrong(named) {
    origin.respond(tag, [this](const Request& request) {
      Reply reply;
      reply.body = body;
      reply.fields = {{"Content-Type", kOciManifest},
                      {"Docker-Content-Digest", request.method == "HEAD" ? wrong : digest}};
      return reply;
    });
    Reply reply;
    reply.body = body;
    reply.fields = {{"Content-Type", kOciManifest}, {"Docker-Content-Digest", digest}};
    origin.respond(ScriptedOrigin::manifest_path("library/app", digest), [reply](const Request&) { return reply; });
  }
  [[nodiscard]] std::size_t asked(const std::string& method) const { return origin.count(tag, method); }

  const std::string tag = ScriptedOrigin::manifest_path("library/app", "latest");
  const std::string path = "/v2/origin.test/library/app/manifests/latest";
  const std::string body = image_manifest(1, kOciManifest);
  const std::string digest;
  const std::string wrong;
  ScriptedOrigin origin;
  Fixture cache{{.origin_url = origin.url()}};
};

}  // namespace

TEST_CASE("Proxy: a tag whose HEAD names what nobody can fetch is settled by its GET", "[proxy]") {
  Misled misled(ScriptedOrigin::digest_of("nothing"));
  SECTION("once the tag has grown old") {
    REQUIRE(get(misled.cache.port(), misled.path).body == misled.body);
    for (int round = 0; round < 3; ++round) {
      misled.cache.clock().advance(61s);
      const std::string method = round == 1 ? "HEAD" : "GET";
      const Response response = fetch(misled.cache.port(), method, misled.path);
      CHECK(response.status == 200);
      CHECK(response.field("docker-content-digest") == misled.digest);
      CHECK(response.field("warning").empty());
    }
    // The first of them, after which GETs alone ask.
    CHECK(misled.asked("HEAD") == 1);
    CHECK(misled.asked("GET") == 4);
  }
  SECTION("after a cold HEAD") {
    // Nobody knows better yet.
    CHECK(head(misled.cache.port(), misled.path).field("docker-content-digest") == misled.wrong);
    SECTION("the tag is asked for next") {}
    SECTION("the digest is asked for next") {
      CHECK(get(misled.cache.port(), "/v2/origin.test/library/app/manifests/" + misled.wrong).status == 404);
      CHECK(head(misled.cache.port(), misled.path).field("docker-content-digest") == misled.digest);
    }
    CHECK(get(misled.cache.port(), misled.path).body == misled.body);
    CHECK(head(misled.cache.port(), misled.path).field("docker-content-digest") == misled.digest);
    CHECK(misled.asked("GET") == 1);
  }
}

namespace {

// A registry whose HEADs of a tag ignore Accept: they name the image of one platform, while GETs give the index.
struct Narrow {
  Narrow() {
    set(1);
    for (const bool index : {false, true}) {
      for (unsigned number : {1U, 2U}) {
        Reply reply = answer(index, number);
        const std::string digest = ScriptedOrigin::digest_of(reply.body);
        origin.respond(ScriptedOrigin::manifest_path("library/app", digest), [reply](const Request&) { return reply; });
      }
    }
  }
  static std::string image(unsigned number) { return image_manifest(number, kOciManifest); }
  static std::string index(unsigned number) {
    return index_manifest(oci::digest_of(oci::Algorithm::sha256, image(number)), image(number).size());
  }
  static Reply answer(bool is_index, unsigned number) {
    Reply reply;
    reply.body = is_index ? index(number) : image(number);
    reply.fields = {{"Content-Type", is_index ? kOciIndex : kOciManifest},
                    {"Docker-Content-Digest", ScriptedOrigin::digest_of(reply.body)}};
    return reply;
  }
  void set(unsigned number) {
    origin.respond(tag, [number](const Request& request) { return answer(request.method != "HEAD", number); });
  }
  Response ask(const std::string& method, const std::string& reference = "latest") {
    return fetch(cache.port(), method, "/v2/origin.test/library/app/manifests/" + reference,
                 {{"Accept", kOciIndex + ", " + kOciManifest}});
  }

  const std::string tag = ScriptedOrigin::manifest_path("library/app", "latest");
  ScriptedOrigin origin;
  Fixture cache{{.origin_url = origin.url()}};
};

}  // namespace

TEST_CASE("Proxy: a tag whose HEAD names another form than its GET gives stays what the GET gives", "[proxy]") {
  Narrow narrow;
  REQUIRE(narrow.ask("GET").body == Narrow::index(1));
  // A client has pulled the image that the index names, so that it is here.
  const bool pulled = GENERATE(false, true);
  const std::string child = ScriptedOrigin::digest_of(Narrow::image(1));
  if (pulled) REQUIRE(narrow.ask("GET", child).body == Narrow::image(1));
  for (int round = 0; round < 3; ++round) {
    narrow.cache.clock().advance(61s);
    CHECK(narrow.ask("HEAD").field("docker-content-digest") == ScriptedOrigin::digest_of(Narrow::index(1)));
    CHECK(narrow.ask("GET").body == Narrow::index(1));
  }
  // One HEAD, which has misled, and a GET each time.
  CHECK(narrow.origin.count(narrow.tag, "HEAD") == 1);
  CHECK(narrow.origin.count(narrow.tag, "GET") == 4);
  narrow.set(2);
  narrow.cache.clock().advance(61s);
  CHECK(narrow.ask("GET").body == Narrow::index(2));
}

TEST_CASE("Proxy: after a cold HEAD that names another form the GET of the tag is upstream's", "[proxy]") {
  Narrow narrow;
  CHECK(narrow.ask("HEAD").status == 200);
  for (int round = 0; round < 2; ++round) CHECK(narrow.ask("GET").body == Narrow::index(1));
  CHECK(narrow.ask("HEAD").field("docker-content-digest") == ScriptedOrigin::digest_of(Narrow::index(1)));
  CHECK(narrow.origin.count(narrow.tag, "HEAD") == 1);
  CHECK(narrow.origin.count(narrow.tag, "GET") == 1);
}

TEST_CASE("Proxy: what only a HEAD has told is not compared with another HEAD", "[proxy]") {
  Narrow narrow;
  CHECK(narrow.ask("HEAD").status == 200);
  narrow.cache.clock().advance(61s);
  for (int round = 0; round < 2; ++round) CHECK(narrow.ask("GET").body == Narrow::index(1));
}

TEST_CASE("Proxy: a tag that has moved costs a HEAD and a GET", "[proxy]") {
  ScriptedOrigin origin;
  const std::string tag = ScriptedOrigin::manifest_path("library/app", "latest");
  const auto set = [&](unsigned number) {
    const Reply reply = Narrow::answer(true, number);
    for (const std::string& path :
         {tag, ScriptedOrigin::manifest_path("library/app", ScriptedOrigin::digest_of(reply.body))}) {
      origin.respond(path, [reply](const Request&) { return reply; });
    }
  };
  Fixture cache({.origin_url = origin.url()});
  const auto check = [&](unsigned number) {
    CHECK(get(cache.port(), "/v2/origin.test/library/app/manifests/latest").body == Narrow::index(number));
  };
  set(1);
  check(1);
  set(2);
  cache.clock().advance(61s);
  check(2);
  CHECK(origin.count(tag, "HEAD") == 1);
  CHECK(origin.requests().size() == 3);
  // Back to what is here and of the same type: the HEAD is enough.
  set(1);
  cache.clock().advance(61s);
  check(1);
  CHECK(origin.requests().size() == 4);
}

TEST_CASE("Proxy: a tag that has moved and is throttled keeps one client waiting", "[proxy]") {
  ScriptedOrigin origin;
  const std::string tag = ScriptedOrigin::manifest_path("library/app", "latest");
  const auto set = [&](unsigned number) {
    const Reply reply = Narrow::answer(true, number);
    origin.respond(tag, [reply](const Request&) { return reply; });
  };
  Fixture cache({.origin_url = origin.url(), .origin_patience = 20s});
  const std::string path = "/v2/origin.test/library/app/manifests/latest";
  set(1);
  REQUIRE(get(cache.port(), path).body == Narrow::index(1));
  set(2);
  // The first GET of what it is now is throttled, and the next one is slow.
  const Reply moved = Narrow::answer(true, 2);
  Reply throttled;
  throttled.status = 429;
  throttled.fields = {{"Retry-After", "1"}};
  Reply slow = moved;
  slow.head_gate = std::make_shared<Gate>();
  const auto gets = std::make_shared<std::atomic<int>>(0);
  origin.respond(tag, [moved, throttled, slow, gets](const Request& request) {
    if (request.method == "HEAD") return moved;
    return gets->fetch_add(1) == 0 ? throttled : slow;
  });
  cache.clock().advance(61s);
  Client first(cache.port());
  first.send("GET", path);
  // It waits for its turn, and then for the answer.
  REQUIRE(origin.wait_until([&](const auto& seen) { return seen.count(tag, "GET") == 3; }));
  for (int i = 0; i < 3; ++i) {
    const Response response = get(cache.port(), path);
    CHECK(response.status == 200);
    CHECK(response.body == Narrow::index(1));
    CHECK_FALSE(response.field("warning").empty());
  }
  CHECK(origin.count(tag, "GET") == 3);
  CHECK(origin.count(tag, "HEAD") == 1);
  slow.head_gate->open();
  CHECK(first.read_response().body == Narrow::index(2));
  CHECK(get(cache.port(), path).body == Narrow::index(2));
}

TEST_CASE("Proxy: a manifest that only a GET tells of costs one request", "[proxy]") {
  ScriptedOrigin origin;
  const std::string body = image_manifest(1, kOciManifest);
  const std::string tag = ScriptedOrigin::manifest_path("library/app", "latest");
  origin.respond(tag, [body](const Request& request) {
    Reply reply;
    reply.status = request.method == "HEAD" ? 405 : 200;
    reply.body = body;
    reply.fields = {{"Content-Type", kOciManifest}};
    return reply;
  });
  Fixture cache({.origin_url = origin.url()});
  const std::string path = "/v2/origin.test/library/app/manifests/latest";
  CHECK(head(cache.port(), path).field("content-length") == std::to_string(body.size()));
  CHECK(get(cache.port(), path).body == body);
  CHECK(origin.count(tag, "HEAD") == 1);
  CHECK(origin.count(tag, "GET") == 1);
}

TEST_CASE("Proxy: a manifest that is asked for as a blob has its own type", "[proxy]") {
  ScriptedOrigin origin;
  const std::string body = image_manifest(1, kOciManifest);
  const std::string digest = origin.add_manifest("library/app", "latest", body, kOciManifest);
  const bool told = GENERATE(true, false);
  origin.respond(ScriptedOrigin::blob_path("library/app", digest), [body, told](const Request&) {
    Reply reply;
    reply.body = body;
    reply.fields = {{"Content-Type", told ? kOciManifest : "application/octet-stream"}};
    return reply;
  });
  Fixture cache({.origin_url = origin.url()});
  const std::string blob = "/v2/origin.test/library/app/blobs/" + digest;
  const auto check = [&](const std::string& method, const std::string& expected) {
    INFO(method);
    const Response response = fetch(cache.port(), method, blob);
    CHECK(response.status == 200);
    if (method == "GET") CHECK(response.body == body);
    CHECK(response.field("content-type") == expected);
  };
  const std::string cold = told ? kOciManifest : "application/octet-stream";
  SECTION("cold, as far as upstream tells") {
    const std::string first = GENERATE("HEAD", "GET");
    for (const std::string& method : {first, std::string("HEAD"), std::string("GET")}) {
      check(method, cold);
      REQUIRE(cache.wait_idle());
    }
    const Response part = get(cache.port(), blob, {{"Range", "bytes=1-5"}});
    CHECK(part.status == 206);
    CHECK(part.field("content-type") == cold);
  }
  SECTION("a range of it alone") {
    const Response part = get(cache.port(), blob, {{"Range", "bytes=1-5"}});
    CHECK(part.body == body.substr(1, 5));
    CHECK(part.field("content-type") == cold);
  }
  SECTION("once it is known as a manifest") {
    REQUIRE(get(cache.port(), "/v2/origin.test/library/app/manifests/" + digest).body == body);
    for (const std::string method : {"GET", "HEAD", "GET"}) check(method, kOciManifest);
  }
}

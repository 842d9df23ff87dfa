// DELETE, as somebody would use it who wants to get in, or to bring back what was taken out.
#include <future>
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

Fixture::Params enabled() {
  Fixture::Params params;
  params.delete_enabled = true;
  return params;
}

Response remove(Fixture& cache, const std::string& path) { return fetch(cache.port(), "DELETE", path); }

// Pulled, and at rest.
bool pulled(Fixture& cache, const std::string& path, const std::string& body) {
  return get(cache.port(), path).body == body && cache.wait_idle();
}

const std::string kManifest(oci::media_type::kOciManifest);

}  // namespace

TEST_CASE("DELETE: is refused unless it is enabled, and reaches upstream never", "[proxy][removal]") {
  Fixture cache;
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1000));
  REQUIRE(pulled(cache, blob_path("library/app", digest), content(1000)));
  const std::size_t asked = cache.hub().seen().all();
  const Response refused = remove(cache, blob_path("library/app", digest));
  CHECK(refused.status == 405);
  CHECK(error_code(refused.body) == "UNSUPPORTED");
  CHECK(refused.field("allow") == "GET, HEAD");
  CHECK(cache.hub().seen().all() == asked);
  CHECK(cache.store().find(digest).has_value());
}

TEST_CASE("DELETE: of what the repository does not have is a 404 that asks nobody", "[proxy][removal]") {
  Fixture cache(enabled());
  const oci::Digest digest = cache.hub().add_blob("library/app", content(1000));
  const oci::Digest other = cache.hub().add_blob("library/other", content(2000, 2));
  REQUIRE(pulled(cache, blob_path("library/other", other), content(2000, 2)));
  const std::size_t asked = cache.hub().seen().all();
  for (const oci::Digest& absent : {digest, other}) {
    const Response answer = remove(cache, blob_path("library/app", absent));
    CHECK(answer.status == 404);
    CHECK(error_code(answer.body) == "BLOB_UNKNOWN");
  }
  CHECK(error_code(remove(cache, manifest_path("library/app", "latest")).body) == "MANIFEST_UNKNOWN");
  CHECK(error_code(remove(cache, manifest_path("library/app", digest)).body) == "MANIFEST_UNKNOWN");
  // A blob is no manifest.
  CHECK(error_code(remove(cache, manifest_path("library/other", other)).body) == "MANIFEST_UNKNOWN");
  CHECK(error_code(remove(cache, "/v2/library/app/blobs/sha256:abc").body) == "DIGEST_INVALID");
  CHECK(remove(cache, "/v2/").status == 405);
  CHECK(remove(cache, "/v2/library/app/tags/list").status == 405);
  CHECK(cache.hub().seen().all() == asked);
  CHECK(cache.store().find(other).has_value());
}

TEST_CASE("DELETE: what one repository gives up stays with another, and with another upstream", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(GENERATE(1000, 100'000));  // answered from memory, and from a file
  const oci::Digest digest = cache.hub().add_blob("library/a", blob);
  cache.hub().add_blob("library/b", blob);
  cache.quay().add_blob("library/a", blob);
  const std::string quay = "/v2/quay.io/library/a/blobs/" + digest.to_string();
  REQUIRE(pulled(cache, blob_path("library/a", digest), blob));
  REQUIRE(pulled(cache, blob_path("library/b", digest), blob));
  REQUIRE(pulled(cache, quay, blob));

  CHECK(remove(cache, blob_path("library/a", digest)).status == 202);
  CHECK(cache.store().find(digest).has_value());
  const std::size_t asked = cache.hub().seen().all() + cache.quay().seen().all();
  CHECK(get(cache.port(), blob_path("library/b", digest)).body == blob);
  CHECK(get(cache.port(), quay).body == blob);
  CHECK(cache.hub().seen().all() + cache.quay().seen().all() == asked);

  // The one that gave it up is asked for again, and refused when upstream says so, whoever else has it.
  cache.hub().refuse("library/a", Error{Errc::denied});
  CHECK(get(cache.port(), blob_path("library/a", digest)).status == 403);
  CHECK(head(cache.port(), blob_path("library/a", digest)).status == 403);

  CHECK(remove(cache, blob_path("library/b", digest)).status == 202);
  CHECK(cache.store().find(digest).has_value());
  CHECK(remove(cache, quay).status == 202);
  CHECK_FALSE(cache.store().find(digest).has_value());
  CHECK_FALSE(std::filesystem::exists(cache.store().layout().blob(digest)));
  CHECK(remove(cache, quay).status == 404);
}

TEST_CASE("DELETE: ready objects are forgotten on every loop", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(1000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  // Connections are spread over the loops.
  for (int i = 0; i < 16; ++i) REQUIRE(pulled(cache, blob_path("library/app", digest), blob));
  REQUIRE(remove(cache, blob_path("library/app", digest)).status == 202);
  cache.hub().refuse("library/app", Error{Errc::blob_unknown});
  for (int i = 0; i < 16; ++i) CHECK(get(cache.port(), blob_path("library/app", digest)).status == 404);
}

TEST_CASE("DELETE: a manifest by digest goes with its tags, a tag goes alone", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string text = image_manifest(1, kManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", text, kManifest);
  cache.hub().add_manifest("library/app", "1.0", text, kManifest);
  REQUIRE(get(cache.port(), manifest_path("library/app", "latest")).body == text);
  REQUIRE(get(cache.port(), manifest_path("library/app", "1.0")).body == text);

  CHECK(remove(cache, manifest_path("library/app", "latest")).status == 202);
  const std::size_t asked = cache.hub().seen().manifests();
  CHECK(get(cache.port(), manifest_path("library/app", digest)).body == text);
  CHECK(get(cache.port(), manifest_path("library/app", "1.0")).body == text);
  CHECK(cache.hub().seen().manifests() == asked);
  CHECK(get(cache.port(), manifest_path("library/app", "latest")).body == text);
  CHECK(cache.hub().seen().manifests() > asked);

  CHECK(remove(cache, manifest_path("library/app", digest)).status == 202);
  CHECK_FALSE(cache.store().find(digest).has_value());
  CHECK(remove(cache, manifest_path("library/app", "1.0")).status == 404);
  // And not even while upstream is out is it served from what was remembered.
  cache.hub().fail_all(Error{Errc::upstream_unreachable});
  CHECK(get(cache.port(), manifest_path("library/app", "1.0")).status == 502);
  CHECK(get(cache.port(), manifest_path("library/app", digest)).status == 502);
}

TEST_CASE("DELETE: a running reader gets to its end", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(8'000'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  REQUIRE(pulled(cache, blob_path("library/app", digest), blob));
  Client reader(cache.port(), 4096);
  reader.send("GET", blob_path("library/app", digest));
  Response response = reader.read_head();
  response.body = reader.read_bytes(1000);
  CHECK(remove(cache, blob_path("library/app", digest)).status == 202);
  CHECK_FALSE(cache.store().find(digest).has_value());
  Response rest = response;
  rest.body.clear();
  const std::string more = reader.read_bytes(blob.size() - 1000);
  CHECK(response.body + more == blob);
}

TEST_CASE("DELETE: a download that runs brings nothing back", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 100'000);
  Client reader(cache.port());
  reader.send("GET", blob_path("library/app", digest));
  Response response = reader.read_head();
  REQUIRE(response.status == 200);

  CHECK(remove(cache, blob_path("library/app", digest)).status == 202);
  cache.hub().release(digest);
  reader.read_rest(response);
  CHECK(response.complete);
  CHECK(response.body == blob);
  REQUIRE(cache.wait_idle());
  CHECK_FALSE(cache.store().find(digest).has_value());
  CHECK(cache.incoming_files() == 0);
  CHECK(cache.store().catalog().repositories().empty());
  // Upstream decides anew.
  cache.hub().refuse("library/app", Error{Errc::denied});
  CHECK(get(cache.port(), blob_path("library/app", digest)).status == 403);
}

TEST_CASE("DELETE: who joins a download after it is let in by upstream alone, and then keeps it", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  cache.hub().hold(digest, 100'000);
  Client first(cache.port());
  first.send("GET", blob_path("library/app", digest));
  REQUIRE(first.read_head().status == 200);
  CHECK(remove(cache, blob_path("library/app", digest)).status == 202);

  SECTION("refused") {
    cache.hub().refuse("library/app", Error{Errc::denied});
    CHECK(get(cache.port(), blob_path("library/app", digest)).status == 403);
    cache.hub().release(digest);
    REQUIRE(cache.wait_idle());
    CHECK_FALSE(cache.store().find(digest).has_value());
  }
  SECTION("let in") {
    const std::size_t heads = cache.hub().seen().blob_heads;
    Client second(cache.port());
    second.send("GET", blob_path("library/app", digest));
    Response response = second.read_head();
    CHECK(response.status == 200);
    CHECK(cache.hub().seen().blob_heads == heads + 1);
    cache.hub().release(digest);
    second.read_rest(response);
    CHECK(response.body == blob);
    REQUIRE(cache.wait_idle());
    CHECK(cache.store().find(digest).has_value());
    CHECK(cache.hub().seen().downloads == 1);
  }
}

TEST_CASE("DELETE: another repository that waits for the same download keeps it", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(300'000);
  const oci::Digest digest = cache.hub().add_blob("library/a", blob);
  cache.hub().add_blob("library/b", blob);
  cache.hub().hold(digest, 100'000);
  Client a(cache.port());
  a.send("GET", blob_path("library/a", digest));
  REQUIRE(a.read_head().status == 200);
  Client b(cache.port());
  b.send("GET", blob_path("library/b", digest));
  Response response = b.read_head();
  REQUIRE(response.status == 200);
  CHECK(remove(cache, blob_path("library/a", digest)).status == 202);
  cache.hub().release(digest);
  b.read_rest(response);
  CHECK(response.body == blob);
  REQUIRE(cache.wait_idle());
  CHECK(cache.store().find(digest).has_value());
  CHECK(cache.store().catalog().scopes_of(digest) == std::vector<std::string>{"docker.io/library/b"});
}

TEST_CASE("DELETE: an answer to a question from before it is not remembered", "[proxy][removal]") {
  Fixture::Params params = enabled();
  params.tag_ttl = 0ms;
  Fixture cache(params);
  const std::string text = image_manifest(1, kManifest);
  const oci::Digest digest = cache.hub().add_manifest("library/app", "latest", text, kManifest);
  REQUIRE(get(cache.port(), manifest_path("library/app", "latest")).body == text);

  // The tag is being asked for once more.
  const std::size_t before = cache.hub().seen().manifests();
  cache.hub().hold_questions();
  std::future<Response> asking =
      std::async(std::launch::async, [&] { return get(cache.port(), manifest_path("library/app", "latest")); });
  REQUIRE(cache.hub().wait_until([&](const auto& seen) { return seen.manifests() > before; }));
  const std::string what = GENERATE(std::string("latest"), std::string("digest"));
  const std::string reference = what == "latest" ? "latest" : digest.to_string();
  CHECK(remove(cache, manifest_path("library/app", reference)).status == 202);
  cache.hub().let_questions();
  const Response answer = asking.get();
  CHECK(answer.status == 200);
  CHECK(answer.body == text);

  const auto scope = descriptors::Scope::repository("docker.io/library/app").value();
  CHECK(cache.store().catalog().tags(scope).empty());
  // By its digest it is known again only because upstream was asked once more, after the removal.
  const bool known = cache.store().catalog().membership(scope, digest).has_value();
  if (what == "digest" && known) CHECK(cache.hub().seen().manifests() > before + 1);
}

TEST_CASE("DELETE: who asks after it joins no question from before", "[proxy][removal]") {
  Fixture cache(enabled());
  const std::string blob = content(1000);
  const oci::Digest digest = cache.hub().add_blob("library/app", blob);
  REQUIRE(head(cache.port(), blob_path("library/app", digest)).status == 200);
  REQUIRE(remove(cache, blob_path("library/app", digest)).status == 202);
  cache.hub().hold_questions();
  const std::size_t heads = cache.hub().seen().blob_heads;
  std::future<Response> first =
      std::async(std::launch::async, [&] { return head(cache.port(), blob_path("library/app", digest)); });
  REQUIRE(cache.hub().wait_until([&](const auto& seen) { return seen.blob_heads == heads + 1; }));
  // Nothing is known of it yet; what is on its way is from before all the same.
  CHECK(remove(cache, blob_path("library/app", digest)).status == 404);
  cache.hub().let_questions();
  CHECK(first.get().status == 200);
}

TEST_CASE("DELETE: where it is enabled, a 405 names it", "[proxy][removal]") {
  Fixture cache(enabled());
  const oci::Digest digest = oci::digest_of(oci::Algorithm::sha256, "blob");
  for (const std::string& path : {blob_path("library/app", digest), manifest_path("library/app", "latest")}) {
    const Response response = fetch(cache.port(), "PUT", path, {{"Content-Length", "0"}});
    CHECK(response.status == 405);
    CHECK(response.field("allow") == "GET, HEAD, DELETE");
  }
  CHECK(fetch(cache.port(), "PUT", "/v2/", {{"Content-Length", "0"}}).field("allow") == "GET, HEAD");
}

TEST_CASE("DELETE: what was taken out is so after a restart", "[proxy][removal]") {
  const TempDirectory data;
  oci::Digest digest;
  {
    Fixture::Params params = enabled();
    params.data = data.path() / "data";
    Fixture cache(params);
    digest = cache.hub().add_blob("library/app", content(1000));
    REQUIRE(get(cache.port(), blob_path("library/app", digest)).status == 200);
    REQUIRE(remove(cache, blob_path("library/app", digest)).status == 202);
    CHECK(cache.store().catalog().pending() == 0);
  }
  Fixture::Params params = enabled();
  params.data = data.path() / "data";
  Fixture cache(params);
  CHECK(cache.store().catalog().repositories().empty());
  CHECK(get(cache.port(), blob_path("library/app", digest)).status == 404);
}

TEST_CASE("Requests: upstream's no is not counted as a failure", "[proxy]") {
  Fixture cache;
  CHECK(get(cache.port(), manifest_path("library/app", "latest")).status == 404);
  CHECK(cache.counted_manifests("unknown", 1));
  cache.hub().refuse("library/app", Error{Errc::denied});
  CHECK(get(cache.port(), manifest_path("library/app", "other")).status == 403);
  CHECK(cache.counted_manifests("denied", 1));
  cache.hub().fail_all(Error{Errc::upstream_unreachable});
  CHECK(get(cache.port(), manifest_path("library/app", "third")).status == 502);
  CHECK(cache.counted_manifests("error", 1));
}

#include "bench.hpp"

#include "oci/media_type.hpp"

namespace sluice::upstream {
namespace {

const std::string kManifest = R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"})";
const std::string kType(oci::media_type::kOciManifest);

TEST_CASE("get_manifest: by tag and by digest", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType + "; charset=utf-8");
  for (const std::string& asked : {std::string("latest"), name}) {
    const auto got = bench.manifest(asked);
    REQUIRE(got);
    CHECK(got->digest == digest(name));
    CHECK(got->media_type == kType);
    CHECK(got->body == kManifest);
  }
  const Request request = bench.origin.requests().at(0);
  CHECK(request.field("Accept") == oci::manifest_accept());
  CHECK(request.field("Accept-Encoding") == "identity");
}

TEST_CASE("get_manifest: a 203, and a 206 that nobody asked for, are the whole where they have it", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType);
  const std::string last = std::to_string(kManifest.size() - 1);
  const std::string size = std::to_string(kManifest.size());
  Reply reply;
  reply.body = kManifest;
  reply.ranges = false;
  for (const std::string& asked : {std::string("latest"), name}) {
    reply.status = 203;
    reply.fields = {{"Content-Type", kType}};
    bench.origin.script(Bench::manifest_path(asked), reply);
    CHECK(bench.manifest(asked)->body == kManifest);
    reply.status = 206;
    reply.fields = {{"Content-Type", kType}, {"Content-Range", "bytes 0-" + last + "/" + size}};
    bench.origin.script(Bench::manifest_path(asked), reply);
    CHECK(bench.manifest(asked)->body == kManifest);
    reply.fields = {{"Content-Type", kType}, {"Content-Range", "bytes 0-" + last + "/1000"}};
    bench.origin.script(Bench::manifest_path(asked), reply);
    CHECK(bench.manifest(asked).error().code == Errc::upstream_protocol);
  }
}

TEST_CASE("get_manifest: what the caller accepts", "[upstream]") {
  Bench bench;
  (void)bench.origin.add_manifest("app", "latest", kManifest, kType);
  CHECK(bench.loops.run(bench.registry().get_manifest(repository("app"), reference("latest"), "a/b, c/d")));
  CHECK(bench.origin.requests().at(0).field("Accept") == "a/b, c/d");
}

TEST_CASE("get_manifest: unknown manifests and repositories", "[upstream]") {
  Bench bench;
  CHECK(bench.manifest("nope").error().code == Errc::manifest_unknown);
  Reply reply;
  reply.status = 404;
  reply.body = R"({"errors":[{"code":"NAME_UNKNOWN","message":"no such repository"}]})";
  bench.origin.script(Bench::manifest_path("nope"), reply);
  CHECK(bench.manifest("nope").error().code == Errc::name_unknown);
}

TEST_CASE("get_manifest: bytes that are not what they should be", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType);
  Reply reply;
  reply.body = kManifest;
  reply.corrupt_at = 3;
  bench.origin.script(Bench::manifest_path(name), reply);
  CHECK(bench.manifest(name).error().code == Errc::digest_mismatch);

  // Damaged once on its way.
  reply.fields = {{"Docker-Content-Digest", name}};
  bench.origin.script(Bench::manifest_path("latest"), reply);
  CHECK(bench.manifest("latest")->body == kManifest);
  // Twice, and not in the same way.
  bench.origin.script(Bench::manifest_path("latest"), reply);
  reply.corrupt_at = 4;
  bench.origin.script(Bench::manifest_path("latest"), reply);
  CHECK(bench.manifest("latest").error().code == Errc::upstream_protocol);
  // The same twice is what upstream means.
  bench.origin.script(Bench::manifest_path("latest"), 2, reply);
  const auto meant = bench.manifest("latest");
  REQUIRE(meant);
  CHECK(meant->digest != digest(name));
  CHECK(meant->digest == digest(ScriptedOrigin::digest_of(meant->body)));

  // Without a word about the digest the body is what it is.
  Reply silent;
  silent.body = kManifest;
  bench.origin.script(Bench::manifest_path("latest"), silent);
  const auto got = bench.manifest("latest");
  REQUIRE(got);
  CHECK(got->digest == digest(name));
  CHECK(got->media_type.empty());

  Reply html;
  html.fields = {{"Content-Type", "text/html"}};
  html.body = "<html>";
  bench.origin.script(Bench::manifest_path("latest"), html);
  CHECK(bench.manifest("latest").error().code == Errc::upstream_protocol);
  bench.origin.script(Bench::manifest_path("latest"), Reply{});
  CHECK(bench.manifest("latest").error().code == Errc::upstream_protocol);
}

TEST_CASE("get_manifest: a registry that names other digests than its manifests have is asked once", "[upstream]") {
  Bench bench;
  const std::string path = Bench::manifest_path("latest");
  Reply reply;
  reply.body = kManifest;
  reply.fields = {{"Content-Type", kType}, {"Docker-Content-Digest", ScriptedOrigin::digest_of("another")}};
  bench.origin.respond(path, [&reply](const Request&) { return reply; });
  for (int i = 0; i < 4; ++i) {
    const auto got = bench.manifest("latest");
    REQUIRE(got);
    CHECK(got->digest == digest(ScriptedOrigin::digest_of(kManifest)));
    CHECK_FALSE(got->has_named_digest);
  }
  // The first time it is compared with what comes once more.
  CHECK(bench.origin.count(path, "GET") == 5);
  // By digest it is judged as ever.
  const std::string name = bench.origin.add_manifest("app", "other", kManifest, kType);
  Reply corrupted;
  corrupted.body = kManifest;
  corrupted.corrupt_at = 3;
  bench.origin.script(Bench::manifest_path(name), corrupted);
  CHECK(bench.manifest(name).error().code == Errc::digest_mismatch);
  // Looked at again later.
  bench.clock.advance(std::chrono::minutes(1));
  CHECK(bench.manifest("latest"));
  CHECK(bench.origin.count(path, "GET") == 7);
}

TEST_CASE("get_manifest: a tag keeps the digest that upstream names and the body has", "[upstream]") {
  Bench bench;
  const oci::Digest by_sha512 = oci::digest_of(oci::Algorithm::sha512, kManifest);
  Reply reply;
  reply.body = kManifest;
  reply.fields = {{"Content-Type", kType}, {"Docker-Content-Digest", by_sha512.to_string()}};
  bench.origin.script(Bench::manifest_path("latest"), reply);
  const auto got = bench.manifest("latest");
  REQUIRE(got);
  CHECK(got->digest == by_sha512);
  CHECK(got->body == kManifest);
}

TEST_CASE("get_manifest: at most 4 MiB", "[upstream]") {
  Bench bench;
  const std::string fits(4 << 20, 'x');
  (void)bench.origin.add_manifest("app", "fits", fits, kType);
  (void)bench.origin.add_manifest("app", "more", fits + "x", kType);
  CHECK(bench.manifest("fits")->body.size() == fits.size());
  CHECK(bench.manifest("more").error().code == Errc::upstream_protocol);
  Reply endless;
  endless.body = fits + fits;
  endless.framing = Framing::chunked;
  bench.origin.script(Bench::manifest_path("fits"), endless);
  CHECK(bench.manifest("fits").error().code == Errc::upstream_protocol);
}

TEST_CASE("get_manifest: a connection that breaks under the body is asked again", "[upstream]") {
  Bench bench;
  (void)bench.origin.add_manifest("app", "latest", kManifest, kType);
  Reply cut;
  cut.body = kManifest;
  cut.cut_after = 10;
  bench.origin.script(Bench::manifest_path("latest"), cut);
  CHECK(bench.manifest("latest")->body == kManifest);
  bench.origin.script(Bench::manifest_path("latest"), 2, cut);
  CHECK(bench.manifest("latest").error().code == Errc::upstream_unreachable);
}

TEST_CASE("stat_manifest: HEAD only", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType);
  const auto head = bench.manifest_head("latest");
  REQUIRE(head);
  CHECK(head->digest == digest(name));
  CHECK(head->size == kManifest.size());
  CHECK(head->media_type == kType);
  CHECK(bench.origin.requests().size() == 1);
  CHECK(bench.manifest_head("nope").error().code == Errc::manifest_unknown);
}

TEST_CASE("stat_manifest: whatever a HEAD comes to, a GET decides", "[upstream]") {
  for (const char* raw :
       {"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 307 There\r\nContent-Length: 0\r\nLocation: /signed-for-get\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDocker-Content-Digest: DIGEST\r\n\r\n",
        "HTTP/1.1 200 OK\r\nDocker-Content-Digest: DIGEST\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 80\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 80\r\nDocker-Content-Digest: nonsense\r\n\r\n"}) {
    INFO(raw);
    Bench bench;
    const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType);
    Reply reply;
    reply.raw = raw;
    if (const auto at = reply.raw->find("DIGEST"); at != std::string::npos) reply.raw->replace(at, 6, name);
    reply.close = true;
    Reply refused;
    refused.status = 403;
    bench.origin.script("/signed-for-get", refused);
    bench.origin.script(Bench::manifest_path("latest"), reply);
    const auto head = bench.manifest_head("latest");
    REQUIRE(head);
    CHECK(head->digest == digest(name));
    CHECK(head->size == kManifest.size());
    CHECK(head->media_type == kType);
    REQUIRE(head->whole);
    CHECK(head->whole->body == kManifest);
    CHECK(bench.origin.count(Bench::manifest_path("latest")) == 2);
  }
}

TEST_CASE("stat_manifest: one failure of a HEAD does not spend a quota of GETs", "[upstream]") {
  Bench bench;
  bench.origin.add_manifest("app", "latest", kManifest, kType);
  Reply failing;
  failing.status = 503;
  const std::string path = Bench::manifest_path("latest");
  bench.origin.script(path, failing);
  for (int i = 0; i < 3; ++i) CHECK(bench.manifest_head("latest"));
  CHECK(bench.origin.count(path, "HEAD") == 3);
  CHECK(bench.origin.count(path, "GET") == 1);
  // Twice in a row it is a habit.
  bench.origin.respond(
      path, [&](const Request& request) { return request.method == "HEAD" ? failing : bench.origin.regular(request); });
  for (int i = 0; i < 4; ++i) CHECK(bench.manifest_head("latest"));
  CHECK(bench.origin.count(path, "HEAD") == 5);
  CHECK(bench.origin.count(path, "GET") == 5);
}

TEST_CASE("stat_manifest: a HEAD that a GET contradicts costs GETs of that tag alone, several those of all",
          "[upstream]") {
  Bench bench;
  Reply unknown;
  unknown.status = 404;
  for (const std::string tag : {"bad-1", "bad-2", "bad-3", "good-1", "good-2"}) {
    bench.origin.add_manifest("app", tag, kManifest, kType);
    if (!tag.starts_with("bad")) continue;
    bench.origin.respond(Bench::manifest_path(tag), [&bench, unknown](const Request& request) {
      return request.method == "HEAD" ? unknown : bench.origin.regular(request);
    });
  }
  const auto heads = [&](const std::string& tag) { return bench.origin.count(Bench::manifest_path(tag), "HEAD"); };
  const auto gets = [&](const std::string& tag) { return bench.origin.count(Bench::manifest_path(tag), "GET"); };
  for (int i = 0; i < 3; ++i) CHECK(bench.manifest_head("bad-1"));
  CHECK(heads("bad-1") == 1);
  CHECK(gets("bad-1") == 3);
  // A quota counts GETs and not HEADs.
  for (int i = 0; i < 3; ++i) CHECK(bench.manifest_head("good-1"));
  CHECK(heads("good-1") == 3);
  CHECK(gets("good-1") == 0);
  CHECK(bench.manifest_head("bad-2"));
  CHECK(bench.manifest_head("good-2"));
  CHECK(gets("good-2") == 0);
  // Two with none of use in between.
  bench.clock.advance(std::chrono::minutes(1));
  CHECK(bench.manifest_head("bad-1"));
  CHECK(bench.manifest_head("bad-1"));
  CHECK(bench.manifest_head("good-1"));
  CHECK(gets("good-1") == 0);
  CHECK(bench.manifest_head("bad-2"));
  CHECK(bench.manifest_head("bad-3"));
  CHECK(bench.manifest_head("good-1"));
  CHECK(heads("good-1") == 4);
  CHECK(gets("good-1") == 1);
  // Once it is a habit, one more is enough.
  bench.clock.advance(std::chrono::minutes(1));
  CHECK(bench.manifest_head("bad-3"));
  CHECK(bench.manifest_head("good-1"));
  CHECK(gets("good-1") == 2);
  bench.clock.advance(std::chrono::minutes(2));
  CHECK(bench.manifest_head("good-1"));
  CHECK(heads("good-1") == 5);
}

}  // namespace
}  // namespace sluice::upstream

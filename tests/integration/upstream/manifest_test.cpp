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

  reply.fields = {{"Docker-Content-Digest", name}};
  bench.origin.script(Bench::manifest_path("latest"), reply);
  CHECK(bench.manifest("latest").error().code == Errc::upstream_protocol);

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

TEST_CASE("stat_manifest: what is missing stays missing", "[upstream]") {
  Bench bench;
  Reply bare;
  bare.framing = Framing::chunked;
  bare.fields = {{"Docker-Content-Digest", "nonsense"}};
  bench.origin.script(Bench::manifest_path("latest"), bare);
  const auto head = bench.manifest_head("latest");
  REQUIRE(head);
  CHECK_FALSE(head->digest);
  CHECK_FALSE(head->size);
  CHECK(head->media_type.empty());
}

TEST_CASE("stat_manifest: a registry without HEAD", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_manifest("app", "latest", kManifest, kType);
  Reply refused;
  refused.status = 405;
  bench.origin.script(Bench::manifest_path("latest"), refused);
  const auto head = bench.manifest_head("latest");
  REQUIRE(head);
  CHECK(head->digest == digest(name));
  CHECK(head->size == kManifest.size());
}

}  // namespace
}  // namespace sluice::upstream

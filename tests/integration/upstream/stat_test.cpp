#include "bench.hpp"

namespace sluice::upstream {
namespace {

TEST_CASE("stat_blob: one HEAD, no body", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  const auto found = bench.stat(name);
  REQUIRE(found);
  CHECK(found->digest == digest(name));
  CHECK(found->size == 5000);
  CHECK(found->media_type == "application/octet-stream");
  CHECK(bench.origin.requests().size() == 1);
  CHECK(bench.origin.requests().at(0).method == "HEAD");
  CHECK(bench.origin.seen().body_bytes == 0);
}

TEST_CASE("stat_blob: unknown", "[upstream]") {
  Bench bench;
  const auto found = bench.stat(ScriptedOrigin::digest_of("nobody has it"));
  REQUIRE_FALSE(found);
  CHECK(found.error().code == Errc::blob_unknown);
  CHECK(found.error().message.find(bench.origin.authority()) != std::string::npos);
  CHECK(found.error().message.find("404 BLOB_UNKNOWN") != std::string::npos);
}

TEST_CASE("stat_blob: a GET of one byte decides where HEAD is refused", "[upstream]") {
  Bench bench;
  const std::string content = content_of(5000);
  const std::string name = bench.origin.add_blob("app", content);
  for (const int status : {400, 403, 404, 405, 501}) {
    INFO(status);
    Reply refused;
    refused.status = status;
    bench.origin.script(Bench::blob(name), refused);
    const auto found = bench.stat(name);
    REQUIRE(found);
    CHECK(found->size == 5000);
    const Request last = bench.origin.requests().back();
    CHECK(last.method == "GET");
    CHECK(last.field("Range") == "bytes=0-0");
  }
}

TEST_CASE("stat_blob: a HEAD without Content-Length", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  Reply reply;
  reply.framing = Framing::chunked;
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name)->size == 5000);
}

TEST_CASE("stat_blob: where the one byte is answered with everything", "[upstream]") {
  Bench bench;
  const std::string content = content_of(8 << 20);
  const std::string name = bench.origin.add_blob("app", content);
  Reply refused;
  refused.status = 404;
  Reply whole;
  whole.body = content;
  whole.ranges = false;
  whole.gate = std::make_shared<Gate>(1000);
  bench.origin.script(Bench::blob(name), refused);
  bench.origin.script(Bench::blob(name), whole);
  CHECK(bench.stat(name)->size == content.size());
  // It is not downloaded.
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes <= 1000 && seen.open <= 1; }));

  bench.origin.script(Bench::blob(name), refused);
  whole.framing = Framing::chunked;
  whole.gate = nullptr;
  bench.origin.script(Bench::blob(name), whole);
  const auto found = bench.stat(name);
  REQUIRE_FALSE(found);
  CHECK(found.error().code == Errc::upstream_protocol);
}

TEST_CASE("stat_blob: an empty blob", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "");
  CHECK(bench.stat(name)->size == 0);
  Reply refused;
  refused.status = 405;
  bench.origin.script(Bench::blob(name), refused);
  CHECK(bench.stat(name)->size == 0);  // 416 with "bytes */0"
  // A size of 0 for anything else is a lie.
  const std::string other = bench.origin.add_blob("app", "content");
  bench.origin.script(Bench::blob(other), Reply{});
  CHECK(bench.stat(other).error().code == Errc::upstream_protocol);
}

TEST_CASE("stat_blob: both refused", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply refused;
  refused.status = 403;
  refused.body = R"({"errors":[{"code":"DENIED","message":"not yours"}]})";
  bench.origin.script(Bench::blob(name), 2, refused);
  const auto found = bench.stat(name);
  REQUIRE_FALSE(found);
  CHECK(found.error().code == Errc::denied);
  CHECK(found.error().message.find("DENIED: not yours") != std::string::npos);
}

TEST_CASE("stat_blob: another blob, an HTML page, a body behind HEAD", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply reply;
  reply.body = "content";
  reply.fields = {{"Docker-Content-Digest", ScriptedOrigin::digest_of("other")}};
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name).error().code == Errc::upstream_protocol);
  reply.fields = {{"Content-Type", "text/html"}};
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name).error().code == Errc::upstream_protocol);

  const std::size_t before = bench.origin.seen().connections;
  reply.fields.clear();
  reply.body_on_head = true;
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name)->size == 7);
  // What follows is not taken for the next answer.
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes == 7; }));
  CHECK(bench.get(name).bytes == "content");
  CHECK(bench.origin.seen().connections == before + 1);
}

TEST_CASE("ping: a registry, open or not", "[upstream]") {
  Bench bench;
  CHECK(bench.loops.run(bench.registry().ping()));
  bench.origin.require_token(bench.origin.url("/token"));
  CHECK(bench.loops.run(bench.registry().ping()));
  CHECK(bench.origin.tokens_given() == 0);
}

TEST_CASE("ping: not a registry", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  Reply reply;
  reply.status = 404;
  bench.origin.script("/v2/", reply);
  CHECK(bench.loops.run(bench.registry().ping()).error().code == Errc::upstream_protocol);
  reply.status = 503;
  bench.origin.script("/v2/", reply);
  CHECK(bench.loops.run(bench.registry().ping()).error().code == Errc::upstream_failed);
  reply.status = 200;
  reply.fields = {{"Content-Type", "text/html"}};
  bench.origin.script("/v2/", reply);
  CHECK(bench.loops.run(bench.registry().ping()).error().code == Errc::upstream_protocol);
}

}  // namespace
}  // namespace sluice::upstream

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
  const std::string content = content_of(5000);
  for (const int status : {204, 302, 400, 401, 403, 404, 405, 410, 418, 429, 500, 501, 503}) {
    INFO(status);
    Bench bench;
    const std::string name = bench.origin.add_blob("app", content);
    Reply refused;
    refused.status = status;
    bench.origin.script(Bench::blob(name), refused);
    const auto found = bench.stat(name);
    REQUIRE(found);
    CHECK(found->size == 5000);
    const Request last = bench.origin.requests().back();
    CHECK(last.method == "GET");
    CHECK(last.field("Range") == "bytes=0-0");
    CHECK(bench.origin.count(Bench::blob(name)) == 2);  // not tried again before that
    CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  }
}

TEST_CASE("stat_blob: whatever a HEAD comes to, a GET decides", "[upstream]") {
  const std::string content = content_of(5000);
  for (const char* raw :
       {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 90\r\nContent-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ftp://example.test/x\r\n\r\n", "nonsense\r\n\r\n", ""}) {
    INFO(raw);
    Bench bench;
    const std::string name = bench.origin.add_blob("app", content);
    Reply reply;
    reply.raw = raw;
    reply.close = true;
    bench.origin.script(Bench::blob(name), reply);
    const auto found = bench.stat(name);
    REQUIRE(found);
    CHECK(found->size == 5000);
    CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 1);
  }
}

TEST_CASE("stat_blob: a HEAD that names no coding but identity is of use", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  Reply reply;
  reply.raw = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Encoding: identity\r\n\r\n";
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name)->size == 5000);
  CHECK(bench.origin.requests().size() == 1);
}

TEST_CASE("stat_blob: a registry whose HEADs are of no use is asked by GET for a while", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  bench.origin.respond(Bench::blob(name), [&](const Request& request) {
    Reply refused;
    refused.status = 403;
    return request.method == "HEAD" ? refused : bench.origin.regular(request);
  });
  for (int i = 0; i < 5; ++i) CHECK(bench.stat(name)->size == 5000);
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 1);
  CHECK(bench.origin.count(Bench::blob(name), "GET") == 5);
  // Tried again later, and less and less often.
  bench.clock.advance(std::chrono::minutes(1));
  for (int i = 0; i < 5; ++i) CHECK(bench.stat(name)->size == 5000);
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 2);
  bench.clock.advance(std::chrono::minutes(1));
  CHECK(bench.stat(name));
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 2);
  bench.clock.advance(std::chrono::minutes(1));
  bench.origin.respond(Bench::blob(name), nullptr);
  for (int i = 0; i < 5; ++i) CHECK(bench.stat(name)->size == 5000);
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 7);
  // A no that the GET confirms says nothing about HEAD.
  const std::string unknown = ScriptedOrigin::digest_of("nobody has it");
  for (int i = 0; i < 2; ++i) CHECK(bench.stat(unknown).error().code == Errc::blob_unknown);
  CHECK(bench.origin.count(Bench::blob(unknown), "HEAD") == 2);
}

TEST_CASE("stat_blob: only a GET opens a breaker", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.breaker.threshold = 1;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  Reply down;
  down.status = 500;
  bench.origin.script("/v2/", down);
  for (const bool by_get : {false, true}) {
    bench.origin.respond(Bench::blob(name), [&bench, by_get](const Request& request) {
      Reply failing;
      failing.status = 500;
      return by_get || request.method == "HEAD" ? failing : bench.origin.regular(request);
    });
    for (int i = 0; i < 4; ++i) CHECK(bench.stat(name).has_value() != by_get);
    CHECK(bench.metric("sluice_upstream_endpoint_up") == (by_get ? 0 : 1));
  }
  // Nor does a HEAD that was the probe keep it open.
  bench.origin.respond(Bench::blob(name), [&bench](const Request& request) {
    Reply failing;
    failing.status = 500;
    return request.method == "HEAD" ? failing : bench.origin.regular(request);
  });
  bench.clock.advance(std::chrono::minutes(2));
  const std::size_t before = bench.origin.count(Bench::blob(name), "HEAD");
  CHECK(bench.stat(name));
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == before + 1);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
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

  bench.clock.advance(std::chrono::minutes(2));
  bench.origin.script(Bench::blob(name), refused);
  whole.framing = Framing::chunked;
  whole.gate = nullptr;
  bench.origin.script(Bench::blob(name), whole);
  const auto found = bench.stat(name);
  REQUIRE_FALSE(found);
  CHECK(found.error().code == Errc::unsupported);
}

TEST_CASE("stat_blob: a registry that tells no sizes is asked by one GET of one byte", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", content_of(5000));
  Reply untold;
  untold.body = content_of(5000);
  untold.framing = Framing::chunked;
  untold.ranges = false;
  bench.origin.respond(Bench::blob(name), [untold](const Request&) { return untold; });
  for (int i = 0; i < 5; ++i) CHECK(bench.stat(name).error().code == Errc::unsupported);
  CHECK(bench.origin.count(Bench::blob(name), "HEAD") == 1);
  CHECK(bench.origin.count(Bench::blob(name), "GET") == 5);
  // What upstream does not have is another answer.
  CHECK(bench.stat(ScriptedOrigin::digest_of("nobody has it")).error().code == Errc::blob_unknown);
  // So is a text, which may be about the blob.
  for (const char* type : {"text/plain", "application/json"}) {
    untold.fields = {{"Content-Type", type}};
    bench.origin.respond(Bench::blob(name), [untold](const Request&) { return untold; });
    CHECK(bench.stat(name).error().code == Errc::upstream_protocol);
  }
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
  bench.clock.advance(std::chrono::minutes(2));
  bench.origin.script(Bench::blob(other), 2, Reply{});
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

TEST_CASE("stat_blob: another digest, an HTML type, a body behind HEAD", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply reply;
  reply.body = "content";
  reply.fields = {{"Docker-Content-Digest", ScriptedOrigin::digest_of("other")}};
  bench.origin.script(Bench::blob(name), 2, reply);
  CHECK(bench.stat(name)->digest == digest(name));
  CHECK(bench.origin.requests().back().method == "GET");
  bench.clock.advance(std::chrono::minutes(2));
  // A page's length is not the blob's.
  reply.fields = {{"Content-Type", "text/html"}};
  reply.body = "<html>please log in</html>";
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name)->size == 7);
  CHECK(bench.origin.requests().back().method == "GET");
  bench.clock.advance(std::chrono::minutes(5));
  reply.body = "content";

  const std::size_t before = bench.origin.seen().connections;
  // What was sent before is counted a moment after it was received.
  constexpr std::uint64_t kSent = 2;  // a byte of each GET
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes == kSent; }));
  reply.fields.clear();
  reply.body_on_head = true;
  bench.origin.script(Bench::blob(name), reply);
  CHECK(bench.stat(name)->size == 7);
  // What follows is not taken for the next answer.
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.body_bytes == kSent + 7; }));
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

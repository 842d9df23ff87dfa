#include <fmt/format.h>

#include "bench.hpp"

namespace sluice::upstream {
namespace {

Reply redirect(int status, std::string location) {
  Reply reply;
  reply.status = status;
  reply.fields = {{"Location", std::move(location)}};
  return reply;
}

TEST_CASE("Redirect: followed, without Authorization to another port", "[upstream]") {
  Bench bench;
  ScriptedOrigin storage({.tls = nullptr, .refuse_authorization = true});
  const std::string content = content_of(100'000);
  const std::string name = bench.origin.add_blob("app", content);
  bench.origin.require_token(bench.origin.url("/token"));
  Reply stored;
  stored.body = content;
  storage.respond("/bucket/object", [stored](const Request&) { return stored; });
  for (const int status : {301, 302, 303, 307, 308}) {
    INFO(status);
    bench.origin.respond(Bench::blob(name), [&, status](const Request& request) {
      // Behind the token, as a registry does it.
      if (request.field("Authorization").empty()) {
        Reply challenge;
        challenge.status = 401;
        challenge.fields = {{"WWW-Authenticate", "Bearer realm=\"" + bench.origin.url("/token") + "\""}};
        return challenge;
      }
      return redirect(status, storage.url("/bucket/object?signature=secret"));
    });
    const Download got = bench.get(name, 1000);
    CHECK_FALSE(got.opening);
    CHECK(got.bytes == content.substr(1000));
    CHECK(got.offset == 1000);
  }
  for (const Request& request : storage.requests()) {
    CHECK(request.field("Authorization").empty());
    CHECK(request.field("Range") == "bytes=1000-");
    CHECK(request.target == "/bucket/object?signature=secret");
  }
  CHECK(storage.requests().size() == 5);
  CHECK(bench.metric("sluice_upstream_requests_total", "3xx") == 5);
}

TEST_CASE("Redirect: to the same origin it keeps Authorization", "[upstream]") {
  Bench bench;
  bench.params.credentials = {"alice", "secret"};
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_basic("alice", "secret");
  CHECK(bench.stat(name));
  bench.origin.script("/v2/app/blobs/" + name, redirect(302, "/v2/app/blobs/../blobs/" + name));
  CHECK(bench.get(name).bytes == "content");
  CHECK_FALSE(bench.origin.requests().back().field("Authorization").empty());
}

TEST_CASE("Redirect: bounded", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.respond(Bench::blob(name), [&](const Request&) { return redirect(307, Bench::blob(name)); });
  const auto got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
  CHECK(bench.origin.count(Bench::blob(name)) == 6);
}

TEST_CASE("Redirect: to nowhere", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  for (const char* location : {"ftp://host/x", "http://user:pass@host/", "http://", "http://h:99999/"}) {
    bench.origin.script(Bench::blob(name), redirect(307, location));
    const auto got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_protocol);
    CHECK(got.opening->message.find("pass") == std::string::npos);
  }
  Reply bare;
  bare.status = 307;
  bench.origin.script(Bench::blob(name), bare);
  CHECK(bench.get(name).opening->code == Errc::upstream_protocol);
}

TEST_CASE("Redirect: not to a link-local address", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  // One that is tried gives upstream_unreachable or an answer.
  for (const char* host : {"169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]",
                           "100.100.100.200", "168.63.129.16", "[::ffff:100.100.100.200]"}) {
    bench.origin.script(Bench::blob(name), redirect(307, fmt::format("http://{}:1/latest", host)));
    const auto got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_protocol);
    CHECK(got.opening->message.find("link-local") != std::string::npos);
  }
}

TEST_CASE("Redirect: a presigned address that has run out is asked for again", "[upstream]") {
  Bench bench;
  ScriptedOrigin storage;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.respond(Bench::blob(name), [&](const Request&) { return redirect(307, storage.url("/o?sig=secret")); });
  Reply stored;
  stored.body = "content";
  storage.respond("/o", [stored](const Request&) { return stored; });
  Reply expired;
  for (const int status : {401, 403, 410}) {
    expired.status = status;
    storage.script("/o", expired);
    CHECK(bench.get(name).bytes == "content");
  }
  CHECK(bench.origin.count(Bench::blob(name)) == 6);

  expired.status = 403;
  expired.body = "<Error><Code>AccessDenied</Code></Error>";
  storage.script("/o", 2, expired);
  const auto got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_failed);
  CHECK(got.opening->message.find(storage.authority() + "/o") != std::string::npos);
  CHECK(got.opening->message.find("secret") == std::string::npos);
}

TEST_CASE("Redirect: one connection is enough", "[upstream]") {
  Bench bench;
  bench.params.max_connections = 1;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply endless = redirect(307, "/o");
  endless.body = "x";
  endless.framing = Framing::until_close;
  endless.gate = std::make_shared<Gate>();
  bench.origin.respond(Bench::blob(name), [endless](const Request&) { return endless; });
  Reply expired = endless;
  expired.status = 403;
  bench.origin.script("/o", expired);
  Reply stored;
  stored.body = "content";
  bench.origin.respond("/o", [stored](const Request&) { return stored; });
  CHECK(bench.get(name).bytes == "content");
}

TEST_CASE("Redirect: storage that refuses HEAD for a presigned GET", "[upstream]") {
  Bench bench;
  ScriptedOrigin storage;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.respond(Bench::blob(name), [&](const Request&) { return redirect(307, storage.url("/o")); });
  storage.respond("/o", [](const Request& request) {
    Reply reply;
    if (request.method == "HEAD")
      reply.status = 403;
    else
      reply.body = "content";
    return reply;
  });
  CHECK(bench.stat(name)->size == 7);
}

}  // namespace
}  // namespace sluice::upstream

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
  CHECK(bench.origin.count(Bench::blob(name)) == 1 + 10);
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

// Whatever goes wrong behind a redirect, this is what is told of it.
void check_silent(const Download& got, const Bench& bench) {
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_failed);
  CHECK(got.opening->retry_after.count() == 0);
  const std::string expected =
      fmt::format("GET {}{}: the server that it leads to gave no valid answer (the log has the reason)",
                  bench.origin.authority(), Bench::blob(ScriptedOrigin::digest_of("content")));
  CHECK(got.opening->message == expected);
}

TEST_CASE("Redirect: only to where the world can reach, or in the upstream's own kind of network", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  // One that was tried would count a connection, or wait for the connect time-out.
  for (const char* host : {"169.254.169.254",
                           "[fe80::1]",
                           "[::ffff:169.254.169.254]",
                           "[fd00:ec2::254]",
                           "[fd00:ec2::23]",
                           "[fd20:ce::254]",
                           "[fd00:c1::a9fe:a9fe]",
                           "100.100.100.200",
                           "168.63.129.16",
                           "192.0.0.192",
                           "10.0.0.1",
                           "192.168.1.1",
                           "172.16.0.1",
                           "100.64.0.1",
                           "[64:ff9b::a9fe:a9fe]",
                           "[2002:a9fe:a9fe::]",
                           "[64:ff9b:1::a00:1]",
                           "[2001:0:808:808::80ff:fffe]",
                           "0.0.0.0",
                           "[::]",
                           "224.0.0.1",
                           "2852039166",
                           "0xa9fea9fe",
                           "10.1"}) {
    INFO(host);
    bench.origin.script(Bench::blob(name), redirect(307, fmt::format("http://{}:1/latest", host)));
    check_silent(bench.get(name), bench);
  }
  // Loopback is this upstream's own kind, by any of its names.
  ScriptedOrigin storage;
  Reply stored;
  stored.body = "content";
  storage.respond("/o", [stored](const Request&) { return stored; });
  const std::string port = storage.authority().substr(storage.authority().rfind(':'));
  for (const char* host : {"127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"}) {
    INFO(host);
    bench.origin.script(Bench::blob(name), redirect(307, fmt::format("http://{}{}/o", host, port)));
    CHECK(bench.get(name).bytes == "content");
  }
}

TEST_CASE("Redirect: never to where this program listens, whatever the settings say", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.redirect_networks = {"0.0.0.0/0", "::/0"};
  ScriptedOrigin admin;
  Reply secret;
  secret.body = "content";
  admin.respond("/metrics", [secret](const Request&) { return secret; });
  const std::string name = bench.origin.add_blob("app", "content");
  const std::string authority = admin.authority();
  const std::string port = authority.substr(authority.rfind(':') + 1);
  for (const char* listening : {"127.0.0.1", "0.0.0.0", "::"}) {
    const auto own = std::make_shared<http::OwnListeners>();
    own->add(*IpAddress::parse(listening), static_cast<std::uint16_t>(std::stoi(port)));
    bench.params.own_listeners = own;
    HttpRegistry registry(bench.params, bench.client, bench.clock, bench.metrics);
    for (const char* host : {"127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "2130706433"}) {
      INFO(listening << " " << host);
      bench.origin.script(Bench::blob(name), redirect(307, fmt::format("http://{}:{}/metrics", host, port)));
      check_silent(bench.loops.run(download(registry, repository("app"), digest(name), 0, 100)), bench);
    }
  }
  CHECK(admin.requests().empty());
}

TEST_CASE("Redirect: back to the upstream's own name over plain HTTP, its address is looked at again",
          "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply secret;
  secret.body = "content";
  bench.origin.respond("/metrics", [secret](const Request&) { return secret; });
  // The name stands for our own admin API by now.
  const auto own = std::make_shared<http::OwnListeners>();
  own->add(*IpAddress::parse("127.0.0.1"), bench.origin.port());
  bench.params.own_listeners = own;
  // What the configuration itself names is asked.
  CHECK(bench.stat(name));
  bench.origin.script(Bench::blob(name), redirect(307, bench.origin.url("/metrics")));
  check_silent(bench.get(name, 0, 100), bench);
  CHECK(bench.origin.count("/metrics") == 0);
}

TEST_CASE("Redirect: a network that the configuration names", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  ScriptedOrigin proxy;  // stands in for the network in between
  bench.params.proxies = std::make_shared<const http::ProxyRules>(http::ProxyRules::Params{
      std::nullopt, *http::ProxyServer::parse("http://" + proxy.authority()), {bench.origin.authority()}, false});
  const std::string name = bench.origin.add_blob("app", "content");
  Reply stored;
  stored.body = "content";
  proxy.respond("http://10.7.0.1/o", [stored](const Request&) { return stored; });
  bench.origin.respond(Bench::blob(name), [](const Request&) { return redirect(307, "http://10.7.0.1/o"); });
  SECTION("not named") { check_silent(bench.get(name), bench); }
  SECTION("named") {
    bench.params.redirect_networks = {"10.7.0.0/16"};
    CHECK(bench.get(name).bytes == "content");
  }
}

TEST_CASE("Redirect: what fails behind it tells neither what is there nor why", "[upstream]") {
  Bench bench;
  bench.params.retries = 1;
  const std::string name = bench.origin.add_blob("app", "content");
  ScriptedOrigin inside;
  const auto answer = [&](const char* path, const Reply& reply) {
    inside.respond(path, [reply](const Request&) { return reply; });
    return inside.url(path);
  };
  Reply forbidden;
  forbidden.status = 403;
  forbidden.body = R"({"errors":[{"code":"DENIED","message":"internal-secret"}]})";
  forbidden.fields = {{"Retry-After", "77"}};
  Reply missing = forbidden;
  missing.status = 404;
  Reply throttled = forbidden;
  throttled.status = 429;
  Reply failing = forbidden;
  failing.status = 503;
  Reply teapot = forbidden;
  teapot.status = 418;
  Reply partial = forbidden;
  partial.status = 206;
  Reply empty = forbidden;
  empty.status = 200;
  empty.body.clear();
  empty.fields = {{"Content-Range", "bytes 3-4/9"}, {"Docker-Content-Digest", ScriptedOrigin::digest_of("other")}};
  std::string closed;
  {
    ScriptedOrigin gone;
    closed = gone.url("/");
  }
  std::size_t tries = 0;
  for (const std::string& location :
       {answer("/403", forbidden), answer("/404", missing), answer("/429", throttled), answer("/503", failing),
        answer("/418", teapot), answer("/206", partial), answer("/200", empty), closed, std::string("http://10.0.0.1/"),
        std::string("http://[::1]:1/"), std::string("https://") + inside.authority() + "/"}) {
    INFO(location);
    const std::size_t before = bench.origin.count(Bench::blob(name));
    bench.origin.respond(Bench::blob(name), [location](const Request&) { return redirect(307, location); });
    const Download got = bench.get(name);
    check_silent(got, bench);
    CHECK(got.bytes.empty());
    // As often as any other, but that the registry is asked at once for another address where the first may have run
    // out.
    tries = bench.origin.count(Bench::blob(name)) - before;
    CHECK(tries == (location.ends_with("/403") ? 4 : 2));
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
  storage.respond("/o", [expired](const Request&) { return expired; });
  const auto got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_failed);
  CHECK(got.opening->message.find("AccessDenied") == std::string::npos);
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

// Registries that redirect to another registry or to storage over plain HTTP, and what we say of ourselves there.
#include "bench.hpp"

#include "support/test_ca.hpp"
#include "upstream/endpoint.hpp"

namespace sluice::upstream {
namespace {

constexpr std::string_view kType = "application/vnd.oci.image.manifest.v1+json";

Reply redirect(std::string location) {
  Reply reply;
  reply.status = 307;
  reply.fields = {{"Location", std::move(location)}};
  return reply;
}

ScriptedOrigin::Params secure(const test::TestCa& ca) {
  ScriptedOrigin::Params params;
  params.tls = ca.server_context({"IP:127.0.0.1"});
  return params;
}

Reply from_registry(unsigned status) {
  Reply reply;
  reply.status = status;
  reply.fields = {{"Docker-Distribution-Api-Version", "registry/2.0"}};
  return reply;
}

// A front door that has nothing itself, and the registry behind it, which wants a token.
struct FrontDoor {
  FrontDoor() {
    name = behind.add_blob("app", "content");
    behind.add_manifest("app", "latest", "{}", std::string(kType));
    for (const std::string& path : {std::string("/v2/"), Bench::blob(name), Bench::manifest_path("latest"),
                                    Bench::manifest_path("none"), std::string("/v2/app/tags/list")}) {
      bench.origin.respond(path, [this](const Request& request) { return redirect(behind.url(request.target)); });
    }
    Reply tags;
    tags.body = R"({"name":"app","tags":["latest"]})";
    tags.fields = {{"Content-Type", "application/json"}};
    behind.respond("/v2/app/tags/list", [tags](const Request&) { return tags; });
    behind.require_token(behind.url("/token"));
  }

  ScriptedOrigin behind;
  Bench bench;
  std::string name;
};

}  // namespace

TEST_CASE("Front door: the challenge of the registry behind it is answered", "[upstream]") {
  FrontDoor door;
  Bench& bench = door.bench;
  CHECK(bench.loops.run(bench.registry().ping()));
  CHECK(bench.manifest("latest"));
  CHECK(bench.manifest_head("latest"));
  CHECK(bench.get(door.name).bytes == "content");
  CHECK(bench.stat(door.name)->size == 7);
  CHECK(bench.loops.run(bench.registry().list(repository("app"), "tags/list")));
  // One token for all of it, which the front door never sees.
  CHECK(door.behind.tokens_given() == 1);
  for (const Request& request : bench.origin.requests()) CHECK(request.field("Authorization").empty());
  CHECK(door.behind.requests().back().field("Authorization") == "Bearer token-1");
  // It ends; a new one is fetched.
  door.behind.revoke_tokens();
  CHECK(bench.get(door.name).bytes == "content");
  CHECK(door.behind.tokens_given() == 2);
}

TEST_CASE("Front door: what the registry behind it refuses is an answer", "[upstream]") {
  FrontDoor door;
  door.behind.respond(Bench::manifest_path("none"), [](const Request&) { return from_registry(404); });
  CHECK(door.bench.manifest("none").error().code == Errc::manifest_unknown);
  door.behind.respond(Bench::manifest_path("latest"), [](const Request&) { return from_registry(403); });
  CHECK(door.bench.manifest("latest").error().code == Errc::denied);
  CHECK(door.bench.metric("sluice_upstream_endpoint_up") == 1);
}

TEST_CASE("Front door: an address that it adds a query to is a registry's", "[upstream]") {
  FrontDoor door;
  Bench& bench = door.bench;
  const auto with_query = [&door](const Request& request) {
    return redirect(door.behind.url(request.target) + "?ns=x");
  };
  bench.origin.respond(Bench::manifest_path("latest"), with_query);
  CHECK(bench.manifest("latest"));
  door.behind.respond(Bench::manifest_path("none"), [](const Request&) { return from_registry(404); });
  bench.origin.respond(Bench::manifest_path("none"), with_query);
  CHECK(bench.manifest("none").error().code == Errc::manifest_unknown);
}

// Who redirects chooses the path, so that it says nothing of who answers: in a network behind the cache, one error for
// all that is no registry, and for a port where nobody listens.
TEST_CASE("Front door: what is no registry behind a redirect is like a closed port", "[upstream][doors]") {
  std::string closed;
  {
    ScriptedOrigin gone;
    closed = gone.url("");
  }
  for (const unsigned status : {401U, 403U, 404U, 410U, 500U}) {
    INFO(status);
    FrontDoor door;
    ScriptedOrigin inner;
    Reply reply;
    reply.status = status;
    if (status == 401) reply.fields = {{"WWW-Authenticate", "Basic realm=\"printer\""}};
    for (const std::string& path : {Bench::manifest_path("x"), Bench::blob(door.name)}) {
      inner.respond(path, [reply](const Request&) { return reply; });
      door.bench.origin.respond(path, [&inner](const Request& request) { return redirect(inner.url(request.target)); });
    }
    door.bench.origin.respond(Bench::manifest_path("closed"),
                              [&closed](const Request& request) { return redirect(closed + request.target); });
    const Error open = door.bench.manifest("x").error();
    const Error shut = door.bench.manifest("closed").error();
    CHECK(open.code == shut.code);
    CHECK(door.bench.get(door.name).opening->code == shut.code);
  }
}

TEST_CASE("Front door: the credentials go to nobody who may not see them", "[upstream]") {
  FrontDoor door;
  Bench& bench = door.bench;
  bench.params.credentials = {"alice", "secret"};
  SECTION("another host and port: anonymously") {
    CHECK(bench.get(door.name).bytes == "content");
    for (const Request& request : door.behind.requests()) {
      if (request.path() == "/token") CHECK(request.field("Authorization").empty());
    }
  }
  SECTION("named in realm_hosts: for the token") {
    bench.params.trusted_realm_hosts = {door.behind.authority()};
    door.behind.set_token_credentials("alice", "secret");
    CHECK(bench.get(door.name).bytes == "content");
  }
  SECTION("a realm that may see them does not open the registry behind to them") {
    // That one would be sent a token with our rights.
    ScriptedOrigin realm;
    bench.params.trusted_realm_hosts = {realm.authority()};
    door.behind.require_token(realm.url("/token"));
    CHECK(bench.get(door.name).opening);
    REQUIRE(realm.count("/token") > 0);
    for (const Request& request : realm.requests()) CHECK(request.field("Authorization").empty());
  }
  SECTION("Basic is not answered") {
    bench.params.trusted_realm_hosts = {door.behind.authority()};
    ScriptedOrigin basic;
    basic.add_blob("app", "content");
    basic.require_basic("alice", "secret");
    Reply refused = from_registry(401);
    refused.fields.push_back({"WWW-Authenticate", "Basic realm=\"registry\""});
    basic.respond(Bench::blob(door.name), [refused](const Request&) { return refused; });
    bench.params.trusted_realm_hosts.push_back(basic.authority());
    bench.origin.respond(Bench::blob(door.name),
                         [&](const Request& request) { return redirect(basic.url(request.target)); });
    CHECK(bench.get(door.name).opening->code == Errc::unauthorized);
    for (const Request& request : basic.requests()) CHECK(request.field("Authorization").empty());
  }
}

TEST_CASE("Front door: a client's own login stays there", "[upstream]") {
  FrontDoor door;
  Bench& bench = door.bench;
  const auto client = bench.registry().on_behalf_of("Bearer the-client's");
  CHECK(bench.loops.run(download(*client, repository("app"), digest(door.name), 0, 100)).bytes == "content");
  for (const Request& request : bench.origin.requests()) CHECK(request.field("Authorization") == "Bearer the-client's");
  for (const Request& request : door.behind.requests()) CHECK(request.field("Authorization") != "Bearer the-client's");
}

TEST_CASE("Front door: an object of storage is no end-point of a registry", "[upstream]") {
  const std::string blob = "/v2/app/blobs/sha256:ab";
  CHECK(is_end_point_of("/v2/app/blobs/sha256:ab", blob));
  CHECK(is_end_point_of("/prefix/v2/other/app/blobs/sha256:ab", blob));
  CHECK_FALSE(is_end_point_of("/docker/registry/v2/blobs/sha256/ab/abcd/data", blob));
  CHECK_FALSE(is_end_point_of("/bucket/sha256:ab", blob));
  CHECK_FALSE(is_end_point_of("/v2/app/blobs/sha256:cd", blob));
  CHECK(is_end_point_of("/v2/", "/v2/"));
  CHECK_FALSE(is_end_point_of("/login", "/v2/"));
  CHECK(is_end_point_of("/v2/x/tags/list", "/v2/app/tags/list?n=1"));
}

TEST_CASE("Plain HTTP behind https: storage, where the setting allows it", "[upstream]") {
  const test::TestCa ca;
  Bench bench(1, secure(ca));
  bench.params.ca_file = ca.certificate_file();
  bench.params.credentials = {"alice", "secret"};
  ScriptedOrigin storage;
  const std::string name = bench.origin.add_blob("app", "content");
  const std::string manifest = ScriptedOrigin::digest_of("{}");
  bench.origin.require_basic("alice", "secret");
  for (const std::string& path : {Bench::blob(name), Bench::manifest_path(manifest), Bench::manifest_path("latest")}) {
    bench.origin.respond(path, [&storage](const Request&) { return redirect(storage.url("/o")); });
  }
  Reply stored;
  stored.body = "content";
  storage.respond("/o", [stored](const Request&) { return stored; });
  SECTION("off") {
    CHECK(bench.get(name).opening->code == Errc::upstream_protocol);
    CHECK(storage.requests().empty());
  }
  SECTION("on") {
    bench.params.http_redirects = true;
    CHECK(bench.get(name).bytes == "content");
    CHECK(bench.stat(name)->size == 7);
    // Bytes that nothing is held against do not come that way,
    CHECK(bench.manifest("latest").error().code == Errc::upstream_protocol);
    const Download range = bench.loops.run(download_range(bench.registry(), repository("app"), digest(name), 1, 2));
    CHECK(range.opening->code == Errc::unsupported);
    // and those that are held against a digest have it. What is wrong behind a redirect is in the log alone.
    CHECK(bench.manifest(manifest).error().code == Errc::upstream_failed);
    for (const Request& request : storage.requests()) CHECK(request.field("Authorization").empty());
    // Nor is a challenge answered there.
    ScriptedOrigin plain;
    plain.add_blob("app", "content");
    plain.require_token(plain.url("/token"));
    bench.origin.respond(Bench::blob(name),
                         [&plain](const Request& request) { return redirect(plain.url(request.target)); });
    CHECK(bench.get(name).opening);
    CHECK(plain.count("/token") == 0);
  }
}

TEST_CASE("Plain HTTP behind https: a realm, where the setting allows it", "[upstream]") {
  const test::TestCa ca;
  Bench bench(1, secure(ca));
  bench.params.ca_file = ca.certificate_file();
  ScriptedOrigin realm;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply challenge;
  challenge.status = 401;
  challenge.fields = {{"WWW-Authenticate", "Bearer realm=\"" + realm.url("/token") + "\""}};
  bench.origin.respond(Bench::blob(name), [&, challenge](const Request& request) {
    return request.field("Authorization") == "Bearer token-1" ? bench.origin.regular(request) : challenge;
  });
  SECTION("off") {
    CHECK(bench.get(name).opening->code == Errc::unauthorized);
    CHECK(realm.requests().empty());
  }
  SECTION("on, anonymously whatever credentials there are") {
    bench.params.http_realm = true;
    bench.params.credentials = {"alice", "secret"};
    bench.params.trusted_realm_hosts = {realm.authority()};
    Reply token;
    token.body = R"({"token":"token-1"})";
    token.fields = {{"Content-Type", "application/json"}};
    realm.respond("/token", [token](const Request&) { return token; });
    CHECK(bench.get(name).bytes == "content");
    REQUIRE(realm.requests().size() == 1);
    CHECK(realm.requests()[0].field("Authorization").empty());
    CHECK(realm.requests()[0].query("account").empty());
  }
}

TEST_CASE("Via: each request says who asks, behind those who asked us", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  bench.params.pseudonym = "cache-1";
  CHECK(bench.get(name).bytes == "content");
  for (const Request& request : bench.origin.requests()) CHECK(request.field("Via") == "1.1 cache-1");
  const auto asking_for = bench.registry().asking_for({.via = "1.0 squid (proxy), 1.1 edge"});
  CHECK(bench.loops.run(download(*asking_for, repository("app"), digest(name), 0, 100)).bytes == "content");
  CHECK(bench.origin.requests().back().field("Via") == "1.0 squid (proxy), 1.1 edge, 1.1 cache-1");
  CHECK(bench.loops.run(asking_for->on_behalf_of("Basic x")->stat_blob(repository("app"), digest(name))).error().code ==
        Errc::unauthorized);
  CHECK(bench.origin.requests().back().field("Via") == "1.0 squid (proxy), 1.1 edge, 1.1 cache-1");
  // A loop is no outage, and not worth another try.
  Reply loop;
  loop.status = 508;
  for (int i = 0; i < 6; ++i) {
    const std::string other = ScriptedOrigin::digest_of(std::to_string(i));
    bench.origin.script(Bench::blob(other), loop);
    CHECK(bench.get(other).opening->code == Errc::upstream_loop);
    CHECK(bench.origin.count(Bench::blob(other)) == 1);
  }
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
}

}  // namespace sluice::upstream

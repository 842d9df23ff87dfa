#include <set>

#include "bench.hpp"
#include "support/gzip.hpp"

namespace sluice::upstream {
namespace {

Task<bool> nothing() { co_return true; }

TEST_CASE("Token: fetched once for a repository, then used again", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"), "the service");
  CHECK(bench.get(name).bytes == "content");
  CHECK(bench.get(name).bytes == "content");
  CHECK(bench.stat(name));
  const auto requests = bench.origin.requests();
  REQUIRE(requests.size() == 5);
  CHECK(requests[0].field("Authorization").empty());
  CHECK(requests[1].path() == "/token");
  CHECK(requests[1].query("service") == "the service");
  CHECK(requests[1].query("scope") == "repository:app:pull");
  CHECK(requests[1].field("Authorization").empty());
  CHECK(requests[2].field("Authorization") == "Bearer token-1");
  CHECK(requests[3].field("Authorization") == "Bearer token-1");
  CHECK(bench.metric("sluice_upstream_token_requests_total") == 1);
  CHECK(bench.metric("sluice_upstream_requests_total", "401") == 1);
}

// As Go's clients take it: decoded, and with any 2xx.
TEST_CASE("Token: an answer that is encoded, or created", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  ScriptedOrigin tokens;
  bench.origin.require_token(tokens.url("/token"));
  Reply reply;
  reply.fields = {{"Content-Type", "application/json"}};
  reply.body = R"({"token":"token-1"})";
  SECTION("gzip") {
    reply.fields.emplace_back("Content-Encoding", "gzip");
    reply.body = test::gzip(reply.body);
  }
  SECTION("201") { reply.status = 201; }
  tokens.respond("/token", [reply](const Request&) { return reply; });
  const auto got = bench.get(name);
  // It is no token of that registry; but it was understood, and sent.
  CHECK(got.opening->code == Errc::unauthorized);
  CHECK(bench.origin.requests().back().field("Authorization") == "Bearer token-1");
}

TEST_CASE("Token: one for each repository", "[upstream]") {
  Bench bench;
  const std::string one = bench.origin.add_blob("app", "one");
  const std::string two = bench.origin.add_blob("other/app", "two");
  bench.origin.require_token(bench.origin.url("/token"));
  CHECK(bench.get(one).bytes == "one");
  CHECK(bench.loops.run(download(bench.registry(), repository("other/app"), digest(two), 0, 100)).bytes == "two");
  CHECK(bench.get(one).bytes == "one");
  CHECK(bench.origin.tokens_given() == 2);
}

TEST_CASE("Token: renewed before it ends, without a 401", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  CHECK(bench.stat(name));
  bench.clock.advance(std::chrono::seconds(269));
  CHECK(bench.stat(name));
  CHECK(bench.origin.tokens_given() == 1);
  bench.clock.advance(std::chrono::seconds(2));  // 300 s less 30
  CHECK(bench.stat(name));
  CHECK(bench.origin.tokens_given() == 2);
  CHECK(bench.metric("sluice_upstream_requests_total", "401") == 1);
}

TEST_CASE("Token: a 401 drops it and tries once more", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  CHECK(bench.stat(name));
  bench.origin.revoke_tokens();
  CHECK(bench.stat(name));
  CHECK(bench.origin.tokens_given() == 2);
}

TEST_CASE("Token: not good enough", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply refused;
  refused.status = 401;
  refused.fields = {
      {"WWW-Authenticate", "Bearer realm=\"" + bench.origin.url("/token") + "\",error=\"insufficient_scope\""}};
  bench.origin.respond(Bench::blob(name), [refused](const Request&) { return refused; });
  const auto found = bench.stat(name);
  REQUIRE_FALSE(found);
  CHECK(found.error().code == Errc::unauthorized);
  // Twice by HEAD, with and without a token, and likewise by the GET that confirms it.
  CHECK(bench.origin.count(Bench::blob(name)) == 4);
  CHECK(bench.origin.tokens_given() == 2);
}

TEST_CASE("Token: one fetch for everybody, on all loops", "[upstream]") {
  Bench bench(2);
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  const auto gate = std::make_shared<Gate>();
  bench.origin.respond("/token", [gate](const Request&) {
    Reply reply;
    reply.body = R"({"token":"token-1"})";
    reply.head_gate = gate;
    return reply;
  });
  bench.origin.respond(Bench::blob(name), [](const Request& request) {
    Reply reply;
    if (request.field("Authorization") == "Bearer token-1") {
      reply.body = "content";
      return reply;
    }
    reply.status = 401;
    reply.fields = {{"WWW-Authenticate", "Bearer realm=\"http://" + request.field("Host") + "/token\""}};
    return reply;
  });
  HttpRegistry& registry = bench.registry();
  std::vector<std::future<Download>> running;
  for (std::size_t i = 0; i < 16; ++i) {
    running.push_back(bench.loops.start(download(registry, repository("app"), digest(name), 0, 100), i % 2));
  }
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/token") == 1; }));
  // The loops have been through all of them: they wait for the token, or for the 401 before it.
  for (const std::size_t loop : {0U, 1U}) (void)bench.loops.run(nothing(), loop);
  gate->open();
  for (auto& one : running) CHECK(one.get().bytes == "content");
  CHECK(bench.origin.count("/token") == 1);
}

TEST_CASE("Token: when the one who fetches is cancelled, another takes over", "[upstream]") {
  Bench bench(2);
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  Reply stuck;
  stuck.head_gate = std::make_shared<Gate>();
  bench.origin.script("/token", stuck);
  HttpRegistry& registry = bench.registry();
  runtime::TaskGroup group("first");
  auto first = bench.loops.start_in(group, download(registry, repository("app"), digest(name), 0, 100), 0);
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/token") == 1; }));
  auto second = bench.loops.start(download(registry, repository("app"), digest(name), 0, 100), 1);
  (void)bench.loops.run(nothing(), 1);  // the second waits for the first
  CHECK(bench.origin.count(Bench::blob(name)) == 1);
  group.cancel();
  CHECK(group.wait_for(std::chrono::seconds(20)));
  CHECK(second.get().bytes == "content");
}

TEST_CASE("Token: a registry that has moved to another token server is asked where", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  {
    ScriptedOrigin first;
    first.respond("/token", [](const Request&) {
      Reply reply;
      reply.body = R"({"token":"token-0","expires_in":60})";
      return reply;
    });
    bench.origin.require_token(first.url("/token"));
    CHECK(bench.stat(name).error().code == Errc::unauthorized);  // the registry takes its own alone
  }
  bench.origin.require_token(bench.origin.url("/token"));
  bench.clock.advance(std::chrono::minutes(10));
  // The one that it used to be cannot be asked any more; what the next request hears then counts.
  (void)bench.stat(name);
  CHECK(bench.stat(name));
  CHECK(bench.origin.tokens_given() == 1);
}

TEST_CASE("Token: who was refused another one is not given that of a fetch under way", "[upstream]") {
  Bench bench;
  // Nothing is tried again, since the clock goes on by more than all tries may take.
  bench.params.headers_timeout = bench.params.endpoint_timeout = bench.params.request_timeout = std::chrono::minutes(1);
  const std::string one = bench.origin.add_blob("app", "one");
  const std::string two = bench.origin.add_blob("app", "two");
  const auto token = [](const std::string& text) {
    Reply reply;
    reply.body = R"({"token":")" + text + R"(","expires_in":60})";
    return reply;
  };
  // The same token again, slowly, for the one whose token-1 was refused.
  const auto slow = std::make_shared<Gate>();
  Reply again = token("token-2");
  again.head_gate = slow;
  for (const Reply& reply : {token("token-1"), token("token-2"), again}) bench.origin.script("/token", reply);
  bench.origin.respond("/token", [&token](const Request&) { return token("token-3"); });

  const auto gate_one = std::make_shared<Gate>();
  const auto gate_two = std::make_shared<Gate>();
  // Each blob takes one token, and is slow to refuse that of which the test says so.
  const auto guard = [&](const std::string& good, const std::string& slowly, std::shared_ptr<Gate> gate,
                         const std::string& content) {
    return [=, realm = bench.origin.url("/token")](const Request& request) {
      Reply reply;
      reply.body = content;
      if (request.field("Authorization") == "Bearer " + good) return reply;
      reply = Reply{};
      reply.status = 401;
      reply.fields = {{"WWW-Authenticate", "Bearer realm=\"" + realm + "\""}};
      if (request.field("Authorization") == "Bearer " + slowly) reply.head_gate = gate;
      return reply;
    };
  };
  bench.origin.respond(Bench::blob(one), guard("token-2", "token-1", gate_one, "one"));
  bench.origin.respond(Bench::blob(two), guard("token-3", "token-2", gate_two, "two"));

  const std::string zero = bench.origin.add_blob("app", "zero");
  bench.origin.respond(Bench::blob(zero), guard("token-1", "none", nullptr, "zero"));
  CHECK(bench.get(zero).bytes == "zero");
  HttpRegistry& registry = bench.registry();
  auto first = bench.loops.start(download(registry, repository("app"), digest(one), 0, 100), 0);
  REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.count(Bench::blob(one)) == 1; }));
  bench.clock.advance(std::chrono::minutes(10));
  auto second = bench.loops.start(download(registry, repository("app"), digest(two), 0, 100), 0);
  REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.count(Bench::blob(two)) == 1; }));
  bench.clock.advance(std::chrono::minutes(10));
  gate_one->open();
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/token") == 3; }));
  gate_two->open();
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.count("/token") == 4; }));
  slow->open();
  const Download got_one = first.get();
  const Download got_two = second.get();
  INFO((got_one.opening ? got_one.opening->message : "") << " / " << (got_two.opening ? got_two.opening->message : ""));
  CHECK(got_one.bytes == "one");
  CHECK(got_two.bytes == "two");
}

TEST_CASE("Token: credentials go to the registry's own realm", "[upstream]") {
  Bench bench;
  bench.params.credentials = {"alice", "secret"};
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  bench.origin.set_token_credentials("alice", "secret");
  CHECK(bench.get(name).bytes == "content");
  const auto requests = bench.origin.requests();
  CHECK(requests[0].field("Authorization").empty());
  CHECK(requests[1].field("Authorization") == "Basic YWxpY2U6c2VjcmV0");
  CHECK(requests[1].query("account") == "alice");
}

TEST_CASE("Token: a password that the registry says is not repeated, wherever it says it", "[upstream]") {
  Bench bench;
  bench.params.credentials = {"alice", "hunter22"};
  Reply reply;
  reply.status = 404;
  reply.body = R"({"errors":[{"code":"X","message":"token=hunter22"}]})";
  bench.origin.script("/v2/", reply);
  const Result<void> pinged = bench.loops.run(bench.registry().ping());
  REQUIRE_FALSE(pinged);
  CHECK(bench.origin.requests()[0].field("Authorization").empty());
  CHECK(pinged.error().message.find("token=***") != std::string::npos);
}

TEST_CASE("Token: credentials do not go to a stranger", "[upstream]") {
  Bench bench;
  ScriptedOrigin stranger;
  bench.params.credentials = {"alice", "secret"};
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(stranger.url("/token"));
  SECTION("an anonymous token is tried") {
    const auto found = bench.stat(name);
    REQUIRE_FALSE(found);
    CHECK(found.error().code == Errc::unauthorized);
    CHECK(found.error().message.find("secret") == std::string::npos);
    CHECK(found.error().message.find("token-") == std::string::npos);
  }
  SECTION("but for a realm that the configuration names") {
    bench.params.trusted_realm_hosts = {stranger.authority()};
    stranger.set_token_credentials("alice", "secret");
    (void)bench.stat(name);
  }
  const auto requests = stranger.requests();
  REQUIRE(requests.size() == 2);  // for the HEAD and for the GET that confirms it
  for (const Request& request : requests) {
    CHECK(request.field("Authorization").empty() == bench.params.trusted_realm_hosts.empty());
    CHECK(request.query("account").empty() == bench.params.trusted_realm_hosts.empty());
  }
}

TEST_CASE("Token: a realm may lead no further than a redirect, and tells as little", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  ScriptedOrigin inside;
  Reply failing;
  failing.status = 500;
  failing.body = R"({"errors":[{"code":"X","message":"internal-secret"}]})";
  failing.fields = {{"Retry-After", "77"}};
  inside.respond("/500", [failing](const Request&) { return failing; });
  Reply nonsense;
  nonsense.body = "internal-secret";
  inside.respond("/200", [nonsense](const Request&) { return nonsense; });
  std::string closed;
  {
    ScriptedOrigin gone;
    closed = gone.url("/token");
  }
  std::set<std::string> said;
  for (const std::string& realm :
       {inside.url("/500"), inside.url("/200"), closed, std::string("http://10.0.0.1/token"),
        std::string("http://[fd00:ec2::254]/token"), std::string("http://169.254.169.254/")}) {
    INFO(realm);
    Reply challenge;
    challenge.status = 401;
    challenge.fields = {{"WWW-Authenticate", "Bearer realm=\"" + realm + "\""}};
    bench.origin.respond(Bench::blob(name), [challenge](const Request&) { return challenge; });
    const Download got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_failed);
    CHECK(got.opening->retry_after.count() == 0);
    said.insert(got.opening->message);
  }
  CHECK(said.size() == 1);
  CHECK(said.begin()->find("internal-secret") == std::string::npos);
}

TEST_CASE("Token: what the token server says counts", "[upstream]") {
  Bench bench;
  bench.params.credentials = {"alice", "wrong"};
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  bench.origin.set_token_credentials("alice", "secret");
  CHECK(bench.stat(name).error().code == Errc::unauthorized);

  Reply reply;
  reply.status = 429;
  reply.fields = {{"Retry-After", "17"}};
  bench.origin.script("/token", reply);
  const auto throttled = bench.stat(name);
  CHECK(throttled.error().code == Errc::throttled);
  CHECK(throttled.error().retry_after == std::chrono::seconds(17));

  reply = Reply{};
  reply.body = "not json";
  bench.origin.script("/token", reply);
  CHECK(bench.stat(name).error().code == Errc::upstream_protocol);

  reply.status = 503;
  bench.origin.script("/token", 4, reply);
  CHECK(bench.stat(name).error().code == Errc::upstream_failed);
  CHECK(bench.metric("sluice_upstream_token_failures_total") >= 4);
}

TEST_CASE("Basic: asked for once, sent at once from then on", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_basic("alice", "secret");
  SECTION("right") {
    bench.params.credentials = {"alice", "secret"};
    CHECK(bench.stat(name));
    CHECK(bench.stat(name));
    CHECK(bench.origin.requests().size() == 3);
  }
  SECTION("wrong") {
    bench.params.credentials = {"alice", "wrong"};
    CHECK(bench.stat(name).error().code == Errc::unauthorized);
    CHECK(bench.origin.requests().size() == 3);  // a GET confirms what the HEAD has come to
  }
  SECTION("none") {
    CHECK(bench.stat(name).error().code == Errc::unauthorized);
    CHECK(bench.origin.requests().size() == 2);
  }
}

TEST_CASE("Challenge: missing on the request, taken from /v2/", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  bench.params.max_connections = 1;
  Reply bare;
  bare.status = 401;
  bare.framing = Framing::until_close;
  bare.gate = std::make_shared<Gate>();  // its body never comes
  bare.body = "x";
  bench.origin.script(Bench::blob(name), bare);
  CHECK(bench.get(name).bytes == "content");
  CHECK(bench.origin.count("/v2/") == 1);
  CHECK(bench.origin.requests().at(2).query("scope") == "repository:app:pull");
}

TEST_CASE("Challenge: without service or scope", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(bench.origin.url("/token"));
  Reply challenge;
  challenge.status = 401;
  challenge.fields = {{"WWW-Authenticate", "Basic realm=\"x\""}, {"WWW-Authenticate", "Bearer realm=\"/token?a=b\""}};
  bench.origin.script(Bench::blob(name), challenge);
  CHECK(bench.get(name).bytes == "content");
  const Request token = bench.origin.requests().at(1);
  CHECK(token.query("a") == "b");
  CHECK(token.query("service") == "127.0.0.1");
  CHECK(token.query("scope") == "repository:app:pull");
}

}  // namespace
}  // namespace sluice::upstream

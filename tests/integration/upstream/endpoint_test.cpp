#include <future>
#include <thread>

#include <fmt/format.h>

#include "bench.hpp"

#include "support/test_ca.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;
using test::Responder;

Reply status(int code) {
  Reply reply;
  reply.status = code;
  return reply;
}

// Five different blobs that the registry fails to give, and /v2/ as well: its breaker opens.
void lose_five(Bench& bench) {
  bench.origin.script("/v2/", status(503));
  for (int i = 0; i < 5; ++i) {
    const std::string name = ScriptedOrigin::digest_of("lost " + std::to_string(i));
    bench.origin.script(Bench::blob(name), bench.params.retries + 1, status(503));
    CHECK(bench.get(name).opening);
  }
}

// Two registries behind one upstream; both have what is added.
struct Pair {
  Pair() {
    bench.params.further = {*http::Url::parse(second.url("/"))};
    bench.params.retries = 0;
  }

  std::string add_blob(const std::string& content) {
    second.add_blob("app", content);
    return bench.origin.add_blob("app", content);
  }
  // Everything at the first one fails so from now on.
  void fail(const std::string& path, int code) {
    bench.origin.respond(path, [code](const Request&) { return status(code); });
  }
  double of_endpoint(std::string_view name, const ScriptedOrigin& origin) const {
    for (const auto& family : bench.metrics.collect()) {
      if (family.name != name) continue;
      for (const auto& sample : family.samples) {
        for (const auto& [key, value] : sample.labels) {
          if (key == "endpoint" && value == origin.authority()) return sample.value;
        }
      }
    }
    return -1;
  }

  ScriptedOrigin second;
  Bench bench;
};

}  // namespace

TEST_CASE("Endpoints: the first is asked while it answers", "[upstream]") {
  Pair pair;
  const std::string name = pair.add_blob("content");
  CHECK(pair.bench.get(name).bytes == "content");
  CHECK(pair.bench.stat(name));
  CHECK(pair.second.requests().empty());
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_requests_total", pair.bench.origin) == 2);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_requests_total", pair.second) == 0);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.second) == 1);
}

TEST_CASE("Endpoints: the next one is asked for what the first cannot give", "[upstream]") {
  Pair pair;
  const std::string name = pair.add_blob("content");
  Reply page = status(200);
  page.body = "<html>please log in</html>";
  page.fields = {{"Content-Type", "text/html"}};
  Reply broken;
  broken.raw = "HTTP/1.1 200 OK\r\nContent-Le";
  broken.cut_after = broken.raw->size();
  Reply throttled = status(429);
  throttled.fields = {{"Retry-After", "1"}};
  for (const Reply& reply : {status(400), status(405), status(410), status(500), status(501), status(503), status(404),
                             throttled, page, broken}) {
    INFO(reply.status);
    pair.bench.origin.script(Bench::blob(name), reply);
    const std::size_t before = pair.second.requests().size();
    CHECK(pair.bench.get(name).bytes == "content");
    CHECK(pair.second.requests().size() == before + 1);
    CHECK(pair.bench.get(name).bytes == "content");
    CHECK(pair.second.requests().size() == before + 1);
  }
}

TEST_CASE("Endpoints: the next one is asked for what came wrong from the first", "[upstream]") {
  Pair pair;
  const std::string name = pair.add_blob("content");
  Reply wrong;
  wrong.body = "CONTENT";
  pair.bench.origin.respond(Bench::blob(name), [wrong](const Request&) { return wrong; });
  CHECK(pair.bench.get(name).bytes == "CONTENT");
  CHECK(pair.second.requests().empty());
  // As whoever holds the bytes against the digest tells it.
  pair.bench.registry().note_mismatch(digest(name));
  CHECK(pair.bench.get(name).bytes == "content");
  CHECK(pair.bench.get(name).bytes == "content");
}

TEST_CASE("Endpoints: 401 and 403 are answers", "[upstream]") {
  Pair pair;
  const std::string name = pair.add_blob("content");
  for (const auto& [code, wanted] : {std::pair(403, Errc::denied), std::pair(401, Errc::unauthorized)}) {
    pair.bench.origin.script(Bench::blob(name), 1, status(code));
    CHECK(pair.bench.get(name).opening->code == wanted);
  }
  CHECK(pair.second.requests().empty());
}

TEST_CASE("Endpoints: unknown is what all of them do not know", "[upstream]") {
  Pair pair;
  const std::string name = ScriptedOrigin::digest_of("nowhere");
  CHECK(pair.bench.get(name).opening->code == Errc::blob_unknown);
  CHECK(pair.bench.stat(name).error().code == Errc::blob_unknown);
  CHECK(pair.bench.manifest("latest").error().code == Errc::manifest_unknown);
  // With one of them out of reach there is no telling.
  pair.second.script(Bench::blob(name), status(503));
  CHECK(pair.bench.get(name).opening->code == Errc::upstream_failed);
  pair.fail(Bench::blob(name), 503);
  CHECK(pair.bench.get(name).opening->code == Errc::upstream_failed);
}

TEST_CASE("Endpoints: where none does what is asked for, the last one's word counts", "[upstream]") {
  Pair pair;
  const std::string path = Bench::blob(pair.add_blob("content"));
  for (const auto& [first, second, code] : std::vector<std::tuple<int, int, Errc>>{
           {400, 501, Errc::upstream_failed}, {501, 404, Errc::blob_unknown}, {405, 503, Errc::upstream_failed}}) {
    INFO(first << " and " << second);
    pair.bench.origin.script(path, status(first));
    pair.second.script(path, status(second));
    const auto got = pair.bench.get(path.substr(path.rfind('/') + 1));
    REQUIRE(got.opening);
    CHECK(got.opening->code == code);
  }
}

TEST_CASE("Endpoints: a download that breaks goes on at the next from the same byte", "[upstream]") {
  Pair pair;
  const std::string content = content_of(300'000);
  const std::string name = pair.add_blob(content);
  Reply cut;
  cut.body = content;
  cut.cut_after = 100'000;
  pair.bench.origin.script(Bench::blob(name), cut);
  const Download first = pair.bench.get(name);
  REQUIRE(first.error);
  CHECK(first.bytes == content.substr(0, 100'000));
  const Download second = pair.bench.get(name, first.bytes.size());
  CHECK(second.offset == 100'000);
  CHECK(first.bytes + second.bytes == content);
  CHECK(pair.bench.origin.count(Bench::blob(name)) == 1);
  CHECK(pair.second.requests().at(0).field("Range") == "bytes=100000-");

  // It breaks there too: back to the first.
  pair.second.script(Bench::blob(name), cut);
  CHECK(pair.bench.get(name).error);
  CHECK(pair.bench.get(name).bytes == content);
  CHECK(pair.bench.origin.count(Bench::blob(name)) == 2);
}

TEST_CASE("Endpoints: a manifest that is not what was asked for comes from the next", "[upstream]") {
  Pair pair;
  const std::string type = "application/vnd.oci.image.manifest.v1+json";
  const std::string name = pair.second.add_manifest("app", "latest", "{}", type);
  Reply wrong;
  wrong.body = "{ }";
  wrong.fields = {{"Content-Type", type}};
  pair.bench.origin.respond(Bench::manifest_path(name), [wrong](const Request&) { return wrong; });
  const auto got = pair.bench.manifest(name);
  REQUIRE(got);
  CHECK(got->body == "{}");
  CHECK(pair.bench.origin.count(Bench::manifest_path(name)) == 1);
}

TEST_CASE("Endpoints: one that is down is left alone, but for a probe, and has a way back", "[upstream]") {
  Pair pair;
  const std::string name = pair.add_blob("content");
  pair.fail("/v2/", 503);
  // One that is broken there is no outage.
  pair.fail(Bench::blob(name), 503);
  for (int i = 0; i < 10; ++i) CHECK(pair.bench.get(name).bytes == "content");
  CHECK(pair.bench.origin.count(Bench::blob(name)) == 10);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.bench.origin) == 1);
  for (int i = 0; i < 10; ++i) {
    const std::string other = pair.add_blob("content " + std::to_string(i));
    pair.fail(Bench::blob(other), 503);
    CHECK_FALSE(pair.bench.get(other).opening);
  }
  CHECK(pair.bench.origin.requests().size() == 15);
  CHECK(pair.bench.origin.count("/v2/") == 1);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.bench.origin) == 0);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.second) == 1);
  CHECK(pair.of_endpoint("sluice_upstream_breaker_openings_total", pair.bench.origin) == 1);
  pair.bench.clock.advance(1s);
  for (int i = 0; i < 3; ++i) CHECK(pair.bench.get(name).bytes == "content");
  CHECK(pair.bench.origin.count(Bench::blob(name)) == 11);
  CHECK(pair.bench.origin.count("/v2/") == 2);
  pair.bench.origin.respond(Bench::blob(name), nullptr);
  pair.bench.clock.advance(2s);
  const std::size_t before = pair.second.requests().size();
  for (int i = 0; i < 3; ++i) CHECK(pair.bench.get(name).bytes == "content");
  CHECK(pair.second.requests().size() == before);
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.bench.origin) == 1);
  CHECK(pair.of_endpoint("sluice_upstream_breaker_openings_total", pair.bench.origin) == 1);
}

TEST_CASE("Endpoints: a client that asks only for what fails keeps nobody out", "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  Reply cut;
  cut.body = content_of(1000);
  cut.cut_after = 100;
  const Reply failure = GENERATE_COPY(status(503), cut);
  constexpr int kRounds = 10;
  constexpr int kConnections = 12;
  for (int round = 0; round < kRounds; ++round) {
    std::vector<std::future<Download>> attack;
    for (int i = 0; i < kConnections; ++i) {
      const std::string lost = ScriptedOrigin::digest_of(fmt::format("lost {} {}", round, i));
      bench.origin.respond(Bench::blob(lost), [failure](const Request&) { return failure; });
      attack.push_back(bench.loops.start(download(bench.registry(), repository("app"), digest(lost), 0, 64 << 10)));
    }
    for (std::future<Download>& one : attack) {
      const Download got = one.get();
      CHECK((got.opening || got.error));
    }
    // Of others, cold.
    const std::string content = fmt::format("content {}", round);
    CHECK(bench.get(bench.origin.add_blob("app", content)).bytes == content);
    bench.clock.advance(100ms);
  }
  CHECK(bench.metric("sluice_upstream_breaker_openings_total") == 0);
  // A second of the clock has passed.
  CHECK(bench.origin.count("/v2/") <= 2);
  CHECK(bench.metric("sluice_upstream_breaker_spared_total") == bench.origin.count("/v2/"));
}

TEST_CASE("Endpoints: an outage is one where /v2/ fails as well", "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.respond("/v2/", [](const Request&) { return status(502); });
  lose_five(bench);
  const Download refused = bench.get(name);
  REQUIRE(refused.opening->code == Errc::upstream_down);
  // Who is refused hears why, and nothing of what others have asked for.
  CHECK(refused.opening->message.find("no usable answer from " + bench.origin.authority() + " (status 503)") !=
        std::string::npos);
  CHECK(refused.opening->message.find("sha256") == std::string::npos);
  CHECK(bench.origin.requests().size() == 6);
}

TEST_CASE("Endpoints: a probe for what always fails keeps nobody out", "[upstream][doors]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  lose_five(bench);
  REQUIRE(bench.get(name).opening->code == Errc::upstream_down);
  // It comes first whenever a probe is due.
  const std::string lost = ScriptedOrigin::digest_of("lost 0");
  bench.origin.respond(Bench::blob(lost), [](const Request&) { return status(503); });
  for (int i = 0; i < 3; ++i) {
    bench.clock.advance(1s);
    CHECK(bench.get(lost).opening->code == Errc::upstream_failed);
    CHECK(bench.get(name).bytes == "content");
    lose_five(bench);
  }
  // An outage is one: /v2/ says so.
  bench.origin.respond("/v2/", [](const Request&) { return status(502); });
  bench.clock.advance(1s);
  CHECK(bench.get(lost).opening->code == Errc::upstream_failed);
  CHECK(bench.get(name).opening->code == Errc::upstream_down);
}

TEST_CASE("Endpoints: a hanging upstream costs one wait, then one short probe at a time", "[upstream]") {
  Bench bench;
  bench.params.headers_timeout = 500ms;
  bench.params.probe_timeout = 250ms;
  bench.params.first_byte_timeout = 500ms;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  const auto stuck = std::make_shared<Gate>();
  const Responder hangs = [stuck](const Request&) {
    Reply reply;
    reply.head_gate = stuck;
    return reply;
  };
  const std::string other = ScriptedOrigin::digest_of("other");
  bench.origin.respond(Bench::blob(name), hangs);
  bench.origin.respond(Bench::blob(other), hangs);
  bench.origin.respond("/v2/app/manifests/latest", hangs);
  // By HEAD, then by GET of a byte, and that once more with a longer wait.
  CHECK(bench.stat(other).error().code == Errc::upstream_timeout);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  CHECK(bench.stat(name).error().code == Errc::upstream_timeout);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 0);
  // What has not been silent is asked for; now it has.
  CHECK(bench.manifest("latest").error().code == Errc::upstream_timeout);
  bench.origin.respond("/v2/app/manifests/latest", nullptr);
  CHECK(bench.manifest("latest").error().code == Errc::upstream_down);
  for (int i = 0; i < 5; ++i) {
    const Download refused = bench.get(name);
    CHECK(refused.opening->code == Errc::upstream_down);
    CHECK(refused.opening->retry_after == 1s);
    CHECK(refused.opening->message.find(bench.origin.authority()) != std::string::npos);
  }
  CHECK(bench.origin.count(Bench::blob(name)) == 3);
  bench.clock.advance(1s);
  CHECK(bench.stat(name).error().code == Errc::upstream_timeout);
  CHECK(bench.get(name).opening->retry_after == 2s);
  CHECK(bench.origin.count(Bench::blob(name)) == 5);
  stuck->open();
  bench.origin.respond(Bench::blob(name), nullptr);
  bench.clock.advance(2s);
  CHECK(bench.get(name).bytes == "content");
}

TEST_CASE("Endpoints: storage behind a redirect that is down is no outage of the registry", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  bench.params.headers_timeout = 1s;
  bench.params.first_byte_timeout = 1s;
  ScriptedOrigin storage;
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.add_manifest("app", "latest", "{}", "application/vnd.oci.image.manifest.v1+json");
  bench.origin.respond(Bench::blob(name), [to = storage.url("/o")](const Request&) {
    Reply reply = status(307);
    reply.fields = {{"Location", to}};
    return reply;
  });
  const bool hangs = GENERATE(false, true);
  storage.respond("/o", [hangs, gate = std::make_shared<Gate>()](const Request&) {
    Reply reply = status(503);
    if (hangs) reply.head_gate = gate;
    return reply;
  });
  // One timeout, or five failures, would open it.
  for (int i = 0; i < (hangs ? 1 : 6); ++i) {
    CHECK(bench.get(name).opening->code == Errc::upstream_failed);
  }
  CHECK(bench.manifest("latest"));
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
}

TEST_CASE("Endpoints: a token server that is down is no outage of the registry", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  ScriptedOrigin tokens;
  tokens.respond("/token", [](const Request&) { return status(503); });
  const std::string name = bench.origin.add_blob("app", "content");
  bench.origin.require_token(tokens.url("/token"));
  for (int i = 0; i < 6; ++i) CHECK(bench.get(name).opening->code == Errc::upstream_failed);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  CHECK(bench.origin.count(Bench::blob(name)) == 6);
  // Nor does it make one that is down look well: a probe that got no token has told nothing.
  bench.origin.require_token(bench.origin.url("/token"));
  CHECK(bench.get(name).bytes == "content");
  lose_five(bench);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 0);
  bench.clock.advance(10min);
  Reply denied = status(403);
  bench.origin.script("/token", denied);
  CHECK(bench.get(name).opening->code == Errc::denied);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 0);
}

TEST_CASE("Endpoints: what storage behind a redirect refuses is no word of the registry", "[upstream]") {
  Pair pair;
  ScriptedOrigin storage;
  const std::string name = pair.add_blob("content");
  pair.bench.origin.respond(Bench::blob(name), [to = storage.url("/o")](const Request&) {
    Reply reply = status(307);
    reply.fields = {{"Location", to}};
    return reply;
  });
  const int code = GENERATE(401, 403, 404, 410);
  storage.respond("/o", [code](const Request&) { return status(code); });
  const bool alone = GENERATE(true, false);
  if (alone) {
    pair.bench.params.further.clear();
    CHECK(pair.bench.get(name).opening->code == Errc::upstream_failed);
    CHECK(pair.bench.stat(name).error().code == Errc::upstream_failed);
    CHECK(storage.count("/o", "GET") > 0);
  } else {
    CHECK(pair.bench.get(name).bytes == "content");
    CHECK(pair.bench.stat(name)->size == 7);
  }
  CHECK(pair.of_endpoint("sluice_upstream_endpoint_up", pair.bench.origin) == 1);
  // A HEAD alone is not believed.
  storage.respond("/o", [code](const Request& request) {
    Reply reply = status(request.method == "HEAD" ? code : 200);
    reply.body = "content";
    return reply;
  });
  CHECK(pair.bench.stat(name)->size == 7);
}

TEST_CASE("Endpoints: a probe is over with the head of its answer", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  const std::string name = bench.origin.add_blob("app", "content");
  lose_five(bench);
  bench.clock.advance(1s);
  Reply slow = status(503);
  slow.body = "the service is being";
  slow.gate = std::make_shared<Gate>();
  bench.origin.script(Bench::blob(name), slow);
  auto probe = bench.loops.start(download(bench.registry(), repository("app"), digest(name), 0, 100));
  const auto limit = std::chrono::steady_clock::now() + 20s;
  while (bench.metric("sluice_upstream_requests_total", "5xx") < 7 && std::chrono::steady_clock::now() < limit) {
    std::this_thread::yield();
  }
  CHECK(bench.stat(name).error().retry_after == 2s);
  bench.clock.advance(2s);
  CHECK(bench.get(name).bytes == "content");
  slow.gate->open();
  CHECK(probe.get().opening->code == Errc::upstream_failed);
}

TEST_CASE("Endpoints: a download that has begun waits for the probe", "[upstream]") {
  Bench bench;
  bench.params.retries = 1;
  const std::string content = content_of(1000);
  const std::string name = bench.origin.add_blob("app", content);
  std::vector<std::chrono::milliseconds> waits;
  bench.params.sleep = [&](std::chrono::milliseconds wait) -> Task<bool> {
    waits.push_back(wait);
    bench.clock.advance(wait);
    return [](bool said) -> Task<bool> { co_return said; }(true);
  };
  lose_five(bench);
  waits.clear();
  CHECK(bench.get(name).opening->code == Errc::upstream_down);
  CHECK(waits.empty());
  CHECK(bench.get(name, 500).bytes == content.substr(500));
  REQUIRE(waits.size() == 1);
  CHECK(waits[0] > 900ms);
}

TEST_CASE("Endpoints: a certificate that is not right is not tried again", "[upstream]") {
  const test::TestCa ca;
  ScriptedOrigin::Params params;
  params.tls = ca.server_context({"DNS:other.example"});
  Bench bench(1, std::move(params));
  ScriptedOrigin second;
  bench.params.ca_file = ca.certificate_file();
  const std::string name = second.add_blob("app", "content");
  SECTION("alone") {
    const auto got = bench.get(name);
    CHECK(got.opening->code == Errc::upstream_protocol);
    CHECK(got.opening->message.find("certificate") != std::string::npos);
    CHECK(bench.metric("sluice_upstream_requests_total", "error") == 1);
  }
  SECTION("the next endpoint is asked") {
    bench.params.further = {*http::Url::parse(second.url("/"))};
    CHECK(bench.get(name).bytes == "content");
    CHECK(bench.metric("sluice_upstream_requests_total", "error") == 1);
  }
}

TEST_CASE("Retry-After: waited for within its limits, else handed on", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  std::vector<std::chrono::milliseconds> waits;
  bench.params.sleep = [&](std::chrono::milliseconds wait) -> Task<bool> {
    waits.push_back(wait);
    return [](bool said) -> Task<bool> { co_return said; }(true);
  };
  for (const int code : {429, 503}) {
    INFO(code);
    Reply reply = status(code);
    reply.fields = {{"Retry-After", "2"}};
    bench.origin.script(Bench::blob(name), reply);
    waits.clear();
    CHECK(bench.get(name).bytes == "content");
    CHECK(waits == std::vector<std::chrono::milliseconds>{2s});
    // For a HEAD too, whose GET counts as its second try.
    bench.origin.script(Bench::blob(name), reply);
    CHECK(bench.stat(name)->size == 7);
    CHECK(waits == std::vector<std::chrono::milliseconds>{2s, 2s});

    reply.fields = {{"Retry-After", "7"}};
    bench.origin.script(Bench::blob(name), reply);
    waits.clear();
    const Download refused = bench.get(name);
    CHECK(refused.opening->retry_after == 7s);
    CHECK(waits.empty());
  }
  // A quota that is spent for hours comes without a time.
  bench.origin.script(Bench::blob(name), status(429));
  CHECK(bench.get(name).opening->code == Errc::throttled);
  CHECK(waits.empty());
}

}  // namespace sluice::upstream

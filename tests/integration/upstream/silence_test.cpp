// Requests to which no head of an answer comes in time: what is tried, for how long, and what it means for others.
#include "bench.hpp"

#include <algorithm>
#include <thread>

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;
using test::Responder;

constexpr std::string_view kType = "application/vnd.oci.image.manifest.v1+json";

Reply stuck() {
  Reply reply;
  reply.head_gate = std::make_shared<Gate>();
  return reply;
}

std::chrono::milliseconds since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
}

struct Impatient : Bench {
  Impatient() {
    params.headers_timeout = 30s;
    params.endpoint_timeout = 600ms;
    params.request_timeout = 3s;
    params.first_byte_timeout = 20s;
    origin.add_manifest("app", "latest", "{}", std::string(kType));
  }
};

}  // namespace

TEST_CASE("Silence: a request is sent again, over another connection", "[upstream]") {
  Impatient bench;
  // Two connections are kept; both may have died in silence.
  const std::string name = bench.origin.add_blob("app", "content");
  Reply held = bench.origin.regular(Request{"GET", Bench::blob(name), {}, 0, {}});
  held.head_gate = std::make_shared<Gate>();
  bench.origin.script(Bench::blob(name), held);
  auto beside = bench.loops.start(download(bench.registry(), repository("app"), digest(name), 0, 100));
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.requests.size() == 1; }));
  REQUIRE(bench.manifest("latest"));
  held.head_gate->open();
  REQUIRE(beside.get().bytes == "content");
  bench.origin.script("/v2/app/manifests/latest", stuck());
  CHECK(bench.manifest("latest"));
  const auto requests = bench.origin.requests();
  REQUIRE(requests.size() == 4);
  CHECK(requests[2].connection < 2);
  CHECK(requests[3].connection == 2);
  CHECK(bench.metric("sluice_upstream_retries_total") == 1);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.open == 1; }));

  // A HEAD and a list likewise.
  bench.origin.script("/v2/app/manifests/latest", stuck());
  CHECK(bench.manifest_head("latest"));
  bench.origin.script("/v2/app/tags/list", stuck());
  Reply tags;
  tags.body = "{}";
  tags.fields = {{"Content-Type", "application/json"}};
  bench.origin.respond("/v2/app/tags/list", [tags](const Request&) { return tags; });
  CHECK(bench.loops.run(bench.registry().list(repository("app"), "tags/list")));
}

TEST_CASE("Silence: what is tried for one request ends in time", "[upstream]") {
  Impatient bench;
  bench.origin.respond("/v2/app/manifests/latest", [](const Request&) { return stuck(); });
  const auto begun = std::chrono::steady_clock::now();
  CHECK(bench.manifest("latest").error().code == Errc::upstream_timeout);
  CHECK(since(begun) >= 2800ms);
  CHECK(since(begun) < 5s);
  CHECK(bench.origin.requests().size() == 2);

  // The next who asks for it hears so at once, the next who asks for something else is served.
  const auto next = bench.manifest("latest");
  CHECK(next.error().code == Errc::upstream_down);
  CHECK(next.error().retry_after == 1s);
  bench.origin.add_manifest("app", "other", "{ }", std::string(kType));
  CHECK(bench.manifest("other"));
  bench.origin.respond("/v2/app/manifests/latest", nullptr);
  bench.clock.advance(1s);
  CHECK(bench.manifest("latest"));
}

TEST_CASE("Silence: waiting for a turn and for a token counts", "[upstream]") {
  SECTION("a turn") {
    Impatient bench;
    bench.params.max_connections = 1;
    const std::string name = bench.origin.add_blob("app", content_of(100'000));
    Reply held;
    held.body = content_of(100'000);
    held.gate = std::make_shared<Gate>(1);
    bench.origin.script(Bench::blob(name), held);
    auto body = bench.loops.run(bench.registry().open_blob(repository("app"), digest(name), 0));
    REQUIRE(body);
    const auto begun = std::chrono::steady_clock::now();
    CHECK(bench.manifest("latest").error().code == Errc::overloaded);
    CHECK(since(begun) < 5s);
    held.gate->open();
    bench.loops.run([](std::unique_ptr<BlobBody> taken) -> Task<bool> {
      taken.reset();
      co_return true;
    }(std::move(*body)));
  }
  SECTION("a token") {
    Impatient bench;
    bench.params.token_timeout = 30s;
    bench.origin.require_token(bench.origin.url("/token"));
    bench.origin.respond("/token", [](const Request&) { return stuck(); });
    const auto begun = std::chrono::steady_clock::now();
    CHECK_FALSE(bench.manifest("latest"));
    CHECK(since(begun) < 5s);
    CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  }
}

TEST_CASE("Silence: the first of several endpoints leaves time for the others", "[upstream]") {
  Impatient bench;
  ScriptedOrigin second;
  second.add_manifest("app", "latest", "{}", std::string(kType));
  bench.params.further = {*http::Url::parse(second.url("/"))};
  bench.origin.respond("/v2/app/manifests/latest", [](const Request&) { return stuck(); });
  const auto begun = std::chrono::steady_clock::now();
  CHECK(bench.manifest("latest"));
  CHECK(since(begun) >= 500ms);
  CHECK(since(begun) < 2500ms);
  CHECK(bench.origin.requests().size() == 1);
  CHECK(second.requests().size() == 1);
}

namespace {

// Two endpoints; the first is silent from the start, at /v2/ as well.
struct Mute : Impatient {
  Mute() {
    params.endpoint_timeout = 60s;
    params.request_timeout = 120s;
    params.headers_timeout = 60s;
    // What a HEAD is given.
    params.probe_timeout = 1s;
    params.further = {*http::Url::parse(second.url("/"))};
    params.background = &background;
    second.add_manifest("app", "latest", "{}", std::string(kType));
    origin.respond_everywhere([](const Request&) { return stuck(); });
  }
  // Of clients; /v2/ apart.
  std::size_t asked() const {
    const auto requests = origin.requests();
    return static_cast<std::size_t>(std::count_if(requests.begin(), requests.end(),
                                                  [](const Request& request) { return request.path() != "/v2/"; }));
  }
  // The clock moves, and somebody asks now and then.
  bool comes_back() {
    const auto limit = std::chrono::steady_clock::now() + 60s;
    const std::size_t before = asked();
    while (asked() == before) {
      if (std::chrono::steady_clock::now() > limit || !manifest("latest")) return false;
      clock.advance(1s);
      std::this_thread::sleep_for(5ms);
    }
    return true;
  }
  ScriptedOrigin second;
};

}  // namespace

TEST_CASE("Silence: who waits for an endpoint goes on when another has found it silent", "[upstream]") {
  Mute bench;
  std::vector<std::future<Download>> waiting;
  for (int i = 0; i < 3; ++i) {
    const std::string name = bench.second.add_blob("app", "blob " + std::to_string(i));
    waiting.push_back(bench.loops.start(download(bench.registry(), repository("app"), digest(name), 0, 100)));
  }
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.requests.size() == 3; }));
  // Long before their own time is over.
  const auto begun = std::chrono::steady_clock::now();
  CHECK(bench.manifest_head("latest"));
  for (int i = 0; i < 3; ++i) {
    CHECK(waiting[static_cast<std::size_t>(i)].get().bytes == "blob " + std::to_string(i));
  }
  CHECK(since(begun) < 40s);
  CHECK(bench.asked() == 4);
}

TEST_CASE("Silence: in the background /v2/ is asked, not what clients want", "[upstream]") {
  Mute bench;
  bench.params.breaker.first_pause = 20ms;
  CHECK(bench.manifest_head("latest"));
  CHECK(bench.asked() == 1);
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/v2/") >= 2; }));
  for (int i = 0; i < 5; ++i) {
    CHECK(bench.manifest("latest"));
    CHECK(bench.get(bench.second.add_blob("app", "blob " + std::to_string(i))).bytes == "blob " + std::to_string(i));
  }
  CHECK(bench.asked() == 1);
  // It is down, and clients did not find that out.
  const auto limit = std::chrono::steady_clock::now() + 60s;
  while (bench.metric("sluice_upstream_endpoint_up") != 0 && std::chrono::steady_clock::now() < limit) {
    std::this_thread::sleep_for(5ms);
  }
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 0);
  bench.clock.advance(1min);
  CHECK(bench.manifest("latest"));
  CHECK(bench.asked() == 1);

  bench.origin.respond_everywhere(nullptr);
  CHECK(bench.comes_back());
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
  const std::size_t before = bench.second.requests().size();
  for (int i = 0; i < 3; ++i) CHECK(bench.manifest("latest"));
  CHECK(bench.second.requests().size() == before);
}

TEST_CASE("Silence: an endpoint that answers at /v2/ alone is given one request in a pause", "[upstream]") {
  Mute bench;
  bench.origin.respond("/v2/", [](const Request&) { return Reply{}; });
  CHECK(bench.manifest_head("latest"));
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/v2/") == 1; }));
  // The trial, when the answer of /v2/ has been taken.
  const auto limit = std::chrono::steady_clock::now() + 60s;
  while (bench.asked() == 1 && std::chrono::steady_clock::now() < limit) CHECK(bench.manifest_head("latest"));
  CHECK(bench.asked() == 2);
  REQUIRE(bench.origin.wait_until([](const auto& seen) { return seen.count("/v2/") == 2; }));
  for (int i = 0; i < 20; ++i) CHECK(bench.manifest_head("latest"));
  CHECK(bench.asked() == 2);
  CHECK(bench.comes_back());
  CHECK(bench.asked() == 3);
}

TEST_CASE("Silence: what the other endpoint does not have is asked for where it was silent", "[upstream]") {
  Mute bench;
  const std::string name = bench.origin.add_blob("app", "only here");
  CHECK(bench.manifest_head("latest"));
  bench.origin.respond(Bench::blob(name), [&bench](const Request& request) { return bench.origin.regular(request); });
  bench.clock.advance(1min);
  CHECK(bench.get(name).bytes == "only here");
}

TEST_CASE("Silence: a slow blob is waited for by itself while others are served", "[upstream]") {
  Impatient bench;
  bench.params.retries = 0;
  std::vector<std::string> slow;
  std::vector<std::shared_ptr<Gate>> gates;
  // An image none of whose layers comes: as many as would open the breaker, and more.
  for (int i = 0; i < 4; ++i) {
    slow.push_back(bench.origin.add_blob("app", "slow " + std::to_string(i)));
    gates.push_back(std::make_shared<Gate>());
    bench.origin.respond(Bench::blob(slow.back()), [&bench, gate = gates.back()](const Request& request) {
      Reply reply = bench.origin.regular(request);
      reply.head_gate = gate;
      return reply;
    });
  }
  const std::string healthy = bench.origin.add_blob("app", "healthy");
  bench.registry();
  std::vector<std::future<Download>> running;
  for (const std::string& name : slow) {
    running.push_back(bench.loops.start(download(bench.registry(), repository("app"), digest(name), 0, 100)));
  }
  // Each is asked for a second time, which is the one that waits.
  REQUIRE(bench.origin.wait_until([&](const auto& seen) {
    for (const std::string& name : slow) {
      if (seen.count(Bench::blob(name)) != 2) return false;
    }
    return true;
  }));
  const auto begun = std::chrono::steady_clock::now();
  CHECK(bench.manifest("latest"));
  CHECK(bench.get(healthy).bytes == "healthy");
  CHECK(since(begun) < 1s);
  for (const auto& gate : gates) gate->open();
  for (std::size_t i = 0; i < slow.size(); ++i) CHECK(running[i].get().bytes == "slow " + std::to_string(i));
  for (const std::string& name : slow) CHECK(bench.origin.count(Bench::blob(name)) == 2);
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 1);
}

TEST_CASE("Silence: in an outage nobody waits as for a slow blob", "[upstream]") {
  Impatient bench;
  bench.params.retries = 0;
  bench.params.probe_timeout = 300ms;
  std::vector<std::string> names;
  for (int i = 0; i < 2; ++i) {
    names.push_back(bench.origin.add_blob("app", "blob " + std::to_string(i)));
    bench.origin.respond(Bench::blob(names.back()), [](const Request&) { return stuck(); });
  }
  for (const std::string tag : {"one", "two"}) {
    bench.origin.respond("/v2/app/manifests/" + tag, [](const Request&) { return stuck(); });
    CHECK(bench.manifest(tag).error().code == Errc::upstream_timeout);
  }
  CHECK(bench.metric("sluice_upstream_endpoint_up") == 0);
  // The first one passes because it was never silent, the second one is the probe after a pause.
  for (const std::string& name : names) {
    const auto begun = std::chrono::steady_clock::now();
    CHECK(bench.get(name).opening->code == Errc::upstream_timeout);
    CHECK(since(begun) < 3s);
    CHECK(bench.origin.count(Bench::blob(name)) == 1);
    bench.clock.advance(1s);
  }
}

TEST_CASE("Silence: only some wait long at a time", "[upstream]") {
  Impatient bench;
  bench.params.retries = 0;
  bench.params.max_connections = 4;
  const std::string one = bench.origin.add_blob("app", "one");
  const std::string two = bench.origin.add_blob("app", "two");
  const auto gate = std::make_shared<Gate>();
  bench.origin.respond(Bench::blob(one), [&bench, gate](const Request& request) {
    Reply reply = bench.origin.regular(request);
    reply.head_gate = gate;
    return reply;
  });
  bench.origin.respond(Bench::blob(two), [](const Request&) { return stuck(); });
  auto first = bench.loops.start(download(bench.registry(), repository("app"), digest(one), 0, 100));
  REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.count(Bench::blob(one)) == 2; }));
  CHECK(bench.get(two).opening->code == Errc::upstream_timeout);
  CHECK(bench.origin.count(Bench::blob(two)) == 1);
  gate->open();
  CHECK(first.get().bytes == "one");
}

}  // namespace sluice::upstream

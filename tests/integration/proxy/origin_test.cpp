// The whole way, from a client's socket to an origin's: what a real upstream does on bad days.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "client.hpp"
#include "fixture.hpp"
#include "oci/media_type.hpp"
#include "support/scripted_origin.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

// A cache in front of an origin with one blob.
struct Chain {
  Chain() : Chain(content(1'000'000)) {}
  explicit Chain(std::string bytes) : blob(std::move(bytes)), digest(origin.add_blob("library/app", blob)) {}
  [[nodiscard]] std::string path() const { return "/v2/origin.test/library/app/blobs/" + digest; }
  [[nodiscard]] std::string upstream_path() const { return ScriptedOrigin::blob_path("library/app", digest); }

  void check_served() {
    const Response response = get(cache.port(), path());
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
  }
  // What is asked for at `from` is at /elsewhere.
  void lead_elsewhere(const std::string& from) {
    Reply redirect;
    redirect.status = 307;
    redirect.fields = {{"Location", "/elsewhere?signature=secret"}};
    origin.respond(from, [redirect](const Request&) { return redirect; });
  }
  void check_broken_then_served() {
    const Response response = get(cache.port(), path());
    CHECK_FALSE((response.status == 200 && response.complete));
    CHECK_FALSE(response.reset);
    REQUIRE(cache.wait_idle());
    CHECK(cache.store().entries() == 0);
    check_served();
    REQUIRE(cache.wait_idle());
    CHECK(cache.incoming_files() == 0);
  }

  ScriptedOrigin origin;
  std::string blob;
  std::string digest;
  // A head may take its time where fifty clients share one machine with much else.
  Fixture cache{{.origin_url = origin.url(), .origin_patience = 4s}};
};

}  // namespace

TEST_CASE("Proxy and origin: fifty clients make one GET", "[proxy]") {
  Chain chain;
  auto gate = std::make_shared<Gate>(100'000);
  Reply reply;
  reply.body = chain.blob;
  reply.gate = gate;
  chain.origin.script(chain.upstream_path(), reply);
  std::vector<Response> responses(50);
  std::vector<std::thread> clients;
  for (Response& response : responses) {
    clients.emplace_back([&chain, &response] { response = get(chain.cache.port(), chain.path()); });
  }
  const bool all_read = chain.cache.wait_for_metric("sluice_fill_readers", 50);
  gate->open();
  for (std::thread& client : clients) client.join();
  CHECK(all_read);
  std::size_t good = 0;
  for (const Response& response : responses) good += response.complete && response.body == chain.blob ? 1 : 0;
  CHECK(good == 50);
  CHECK(chain.origin.requests().size() == 1);
  CHECK(chain.origin.seen().body_bytes == chain.blob.size());
}

TEST_CASE("Proxy and origin: a connection that breaks is resumed by Range", "[proxy]") {
  Chain chain;
  Reply reply;
  reply.body = chain.blob;
  reply.cut_after = 300'000;
  reply.cut_with_reset = GENERATE(false, true);
  chain.origin.script(chain.upstream_path(), reply);
  chain.check_served();
  const std::vector<Request> requests = chain.origin.requests();
  REQUIRE(requests.size() == 2);
  CHECK(requests[0].field("Range").empty());
  CHECK(requests[1].field("Range").starts_with("bytes="));
}

TEST_CASE("Proxy and origin: a byte corrupted on the way", "[proxy]") {
  Chain chain;
  Reply reply;
  reply.body = chain.blob;
  reply.corrupt_at = 700'000;
  reply.framing = GENERATE(Framing::content_length, Framing::chunked);
  chain.origin.script(chain.upstream_path(), reply);
  chain.check_broken_then_served();
}

TEST_CASE("Proxy and origin: bytes behind the stated end, and an empty body", "[proxy]") {
  Chain chain;
  Reply reply;
  SECTION("too short a length") {
    reply.body = chain.blob;
    reply.announced = chain.blob.size() - 1;
  }
  SECTION("empty") { reply.body.clear(); }
  SECTION("a page") {
    reply.body = "<html>please log in</html>";
    reply.fields = {{"Content-Type", "text/html"}};
  }
  chain.origin.script(chain.upstream_path(), reply);
  chain.check_broken_then_served();
}

TEST_CASE("Proxy and origin: a redirect, and a body without a length", "[proxy]") {
  Chain chain;
  SECTION("redirect") {
    chain.lead_elsewhere(chain.upstream_path());
    Reply body;
    body.body = chain.blob;
    chain.origin.script("/elsewhere", body);
  }
  SECTION("chunked") {
    Reply body;
    body.body = chain.blob;
    body.framing = Framing::chunked;
    chain.origin.script(chain.upstream_path(), body);
  }
  chain.check_served();
}

// Storage that knows no HEAD, no Range and tells no length, as some proxies in front of it do.
TEST_CASE("Proxy and origin: a redirect to what tells no length", "[proxy]") {
  Chain chain;
  chain.lead_elsewhere(chain.upstream_path());
  chain.origin.respond("/elsewhere", [blob = chain.blob](const Request& request) {
    Reply reply;
    reply.status = request.method == "HEAD" ? 403 : 200;
    reply.body = blob;
    reply.framing = Framing::chunked;
    return reply;
  });
  SECTION("whole, and for another repository, which joins or finds it") {
    chain.check_served();
    REQUIRE(chain.cache.wait_idle());
    chain.lead_elsewhere(ScriptedOrigin::blob_path("library/other", chain.digest));
    const Response other = get(chain.cache.port(), "/v2/origin.test/library/other/blobs/" + chain.digest);
    CHECK(other.status == 200);
    CHECK((other.body == chain.blob));
  }
  SECTION("a range") {
    const Response range = get(chain.cache.port(), chain.path(), {{"Range", "bytes=1000-1999"}});
    CHECK(range.status == 206);
    CHECK((range.body == chain.blob.substr(1'000, 1'000)));
  }
  SECTION("HEAD") { CHECK(head(chain.cache.port(), chain.path()).status == 200); }
}

TEST_CASE("Proxy and origin: a registry that tells no sizes costs one request each", "[proxy]") {
  Chain chain;
  const auto tell_none = [&](const std::string& path, const std::string& blob) {
    chain.origin.respond(path, [blob](const Request&) {
      Reply reply;
      reply.body = blob;
      reply.framing = Framing::chunked;
      reply.ranges = false;
      return reply;
    });
  };
  tell_none(chain.upstream_path(), chain.blob);
  // A HEAD that is of no use, and a GET: then a GET alone.
  for (std::size_t asked = 2; asked < 5; ++asked) {
    const Response response = head(chain.cache.port(), chain.path());
    CHECK(response.status == 200);
    CHECK(response.field("content-length").empty());
    CHECK(chain.origin.requests().size() == asked);
  }
  const std::string unknown = "/v2/origin.test/library/app/blobs/" + ScriptedOrigin::digest_of("nobody has it");
  CHECK(head(chain.cache.port(), unknown).status == 404);
  // A range of what is not here: the first one asks for the size, later ones do not.
  const auto check_range = [&](const std::string& digest, const std::string& blob, std::size_t costs) {
    const std::size_t before = chain.origin.requests().size();
    const Response response =
        get(chain.cache.port(), "/v2/origin.test/library/app/blobs/" + digest, {{"Range", "bytes=1000-1999"}});
    CHECK(response.status == 206);
    CHECK((response.body == blob.substr(1'000, 1'000)));
    REQUIRE(chain.cache.wait_idle());
    CHECK(chain.origin.requests().size() - before == costs);
  };
  check_range(chain.digest, chain.blob, 2);
  for (unsigned seed = 2; seed < 4; ++seed) {
    const std::string blob = content(500'000, seed);
    const std::string digest = chain.origin.add_blob("library/app", blob);
    tell_none(ScriptedOrigin::blob_path("library/app", digest), blob);
    check_range(digest, blob, 1);
  }
  // What is stored is asked about by one GET, once upstream's word on it is old.
  chain.cache.clock().advance(48h);
  std::size_t before = chain.origin.requests().size();
  chain.check_served();
  CHECK(chain.origin.requests().size() - before <= 2);  // after so long HEADs are tried again
  chain.cache.clock().advance(48h);
  before = chain.origin.requests().size();
  chain.check_served();
  chain.check_served();
  CHECK(chain.origin.requests().size() - before <= 2);
}

TEST_CASE("Proxy and origin: the length that a HEAD tells decides no 416", "[proxy]") {
  Chain chain;
  chain.origin.respond(chain.upstream_path(), [&chain](const Request& request) {
    Reply reply = chain.origin.regular(request);
    if (request.method == "HEAD") reply.announced = 10;
    return reply;
  });
  const Response range = get(chain.cache.port(), chain.path(), {{"Range", "bytes=1000-1999"}});
  CHECK(range.status == 206);
  CHECK(range.field("content-range") == "bytes 1000-1999/1000000");
  CHECK((range.body == chain.blob.substr(1'000, 1'000)));
  const Response outside = get(chain.cache.port(), chain.path(), {{"Range", "bytes=1000000-1000001"}});
  CHECK(outside.status == 416);
  CHECK(outside.field("content-range") == "bytes */1000000");
  // Nothing was downloaded for that.
  CHECK(chain.origin.seen().body_bytes < 10'000);
}

TEST_CASE("Proxy and origin: a redirect to storage that ignores Range", "[proxy]") {
  Chain chain;
  chain.lead_elsewhere(chain.upstream_path());
  chain.origin.respond("/elsewhere", [blob = chain.blob](const Request&) {
    Reply reply;
    reply.body = blob;
    return reply;
  });
  const Response range = get(chain.cache.port(), chain.path(), {{"Range", "bytes=1000-1999"}});
  CHECK(range.status == 206);
  CHECK((range.body == chain.blob.substr(1'000, 1'000)));
  // A question, the range, and the whole, with a redirect each.
  CHECK(chain.origin.requests().size() <= 8);
}

TEST_CASE("Proxy and origin: statuses are handed on", "[proxy]") {
  struct Case {
    int upstream;
    unsigned status;
    std::string code;
  };
  const Case expected =
      GENERATE(Case{404, 404, "BLOB_UNKNOWN"}, Case{403, 403, "DENIED"}, Case{401, 401, "UNAUTHORIZED"},
               Case{500, 502, "UNAVAILABLE"}, Case{429, 503, "TOOMANYREQUESTS"});
  Chain chain;
  Reply reply;
  reply.status = expected.upstream;
  chain.origin.script(chain.upstream_path(), 20, reply);
  const Response response = get(chain.cache.port(), chain.path());
  CHECK(response.status == expected.status);
  CHECK(error_code(response.body) == expected.code);
  CHECK(get(chain.cache.port(), "/v2/").status == 200);
}

TEST_CASE("Proxy and origin: an origin that says nothing, and one that is gone", "[proxy]") {
  Chain chain;
  SECTION("silent") {
    Reply reply;
    reply.head_gate = std::make_shared<Gate>();
    chain.origin.script(chain.upstream_path(), 20, reply);
    const Response response = get(chain.cache.port(), chain.path());
    CHECK(response.status == 504);
    CHECK(error_code(response.body) == "UNAVAILABLE");
  }
  SECTION("gone") {
    std::string gone;
    {
      const ScriptedOrigin short_lived;
      gone = short_lived.url();
    }
    Fixture cache({.origin_url = gone});
    const Response response = get(cache.port(), chain.path());
    CHECK(response.status == 502);
    CHECK(error_code(response.body) == "UNAVAILABLE");
  }
}

TEST_CASE("Proxy and origin: an image with its blobs, twice, the second time without the origin", "[proxy]") {
  auto origin = std::make_unique<ScriptedOrigin>();
  const std::string layer = content(500'000, 1);
  const std::string config = content(2'000, 2);
  const std::string layer_digest = origin->add_blob("library/app", layer);
  const std::string config_digest = origin->add_blob("library/app", config);
  const std::string type(oci::media_type::kOciManifest);
  const std::string manifest = image_manifest(oci::Digest::parse(config_digest).value(), config.size(),
                                              oci::Digest::parse(layer_digest).value(), layer.size(), type);
  origin->add_manifest("library/app", "latest", manifest, type);
  Fixture cache({.origin_url = origin->url()});
  const std::string base = "/v2/origin.test/library/app/";
  for (int round = 0; round < 2; ++round) {
    const Response told = head(cache.port(), base + "manifests/latest");
    CHECK(told.status == 200);
    const Response served = get(cache.port(), base + "manifests/" + told.field("docker-content-digest"));
    CHECK(served.body == manifest);
    CHECK(served.field("content-type") == type);
    CHECK((get(cache.port(), base + "blobs/" + config_digest).body == config));
    CHECK((get(cache.port(), base + "blobs/" + layer_digest).body == layer));
    REQUIRE(cache.wait_idle());
    origin.reset();
    cache.clock().advance(std::chrono::hours(1));
  }
}

TEST_CASE("Proxy and origin: downloads whose clients have left let others in", "[proxy][doors]") {
  constexpr std::size_t kBlobs = 6;
  const std::string blob = content(8 << 20);
  ScriptedOrigin origin;
  const auto line = std::make_shared<Gate>(1);
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < kBlobs; ++i) {
    const std::string bytes = std::to_string(i) + blob;
    const std::string digest = origin.add_blob("library/app", bytes);
    paths.push_back("/v2/origin.test/library/app/blobs/" + digest);
    origin.respond(ScriptedOrigin::blob_path("library/app", digest), [&origin, line](const Request& request) {
      Reply reply = origin.regular(request);
      if (request.method == "GET") reply.gate = line;
      return reply;
    });
  }
  const std::string wanted = origin.add_blob("library/app", content(1000, 3));
  // Blobs get three of four slots.
  Fixture cache({.origin_url = origin.url(), .origin_connections = 4, .origin_patience = 20s});
  {
    std::vector<Client> clients;
    for (const std::string& path : paths) {
      clients.emplace_back(cache.port());
      clients.back().send("GET", path);
    }
    REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kBlobs - 3));
  }
  Client client(cache.port());
  client.send("GET", "/v2/origin.test/library/app/blobs/" + wanted);
  REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kBlobs - 2));
  // The line is slow, and would be theirs for long.
  std::atomic<bool> served{false};
  std::thread trickle([&] {
    while (!served) {
      line->allow(16 * 1024);
      std::this_thread::sleep_for(1ms);
    }
    line->open();
  });
  const Response response = client.read_response();
  const double finished = cache.metric("sluice_fills_completed_total");
  served = true;
  trickle.join();
  CHECK(response.status == 200);
  CHECK((response.body == content(1000, 3)));
  CHECK(finished <= 1);  // no more than its own
  // What was begun is brought to its end when there is room.
  CHECK(cache.wait_for_metric("sluice_fills_completed_total", kBlobs + 1));
  REQUIRE(cache.wait_idle());  // a download is counted before its file is in the store
  for (std::size_t i = 0; i < kBlobs; ++i) CHECK((get(cache.port(), paths[i]).body == std::to_string(i) + blob));
  CHECK(cache.counted_blobs("hit", kBlobs));
}

TEST_CASE("Proxy and origin: seventy large downloads whose clients have left", "[proxy][doors]") {
  constexpr std::size_t kBlobs = 70;
  constexpr std::size_t kSlots = 64;
  constexpr std::size_t kForBlobs = kSlots - kSlots / 8;
  ScriptedOrigin origin;
  const auto line = std::make_shared<Gate>(1);
  // Their ends never come, so their digests do not matter.
  const std::string beginning = content(1 << 20);
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < kBlobs; ++i) {
    const std::string digest = ScriptedOrigin::digest_of("large " + std::to_string(i));
    paths.push_back("/v2/origin.test/library/app/blobs/" + digest);
    origin.respond(ScriptedOrigin::blob_path("library/app", digest), [&beginning, line](const Request&) {
      Reply reply;
      reply.body = beginning;
      reply.announced = std::uint64_t{24} << 20;
      reply.ranges = false;
      reply.gate = line;
      return reply;
    });
  }
  const std::string wanted = origin.add_blob("library/app", content(1000, 3));
  Fixture cache({.origin_url = origin.url(), .origin_connections = kSlots, .origin_patience = 60s});
  {
    std::vector<Client> clients;
    for (const std::string& path : paths) {
      clients.emplace_back(cache.port());
      clients.back().send("GET", path);
    }
    REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kBlobs - kForBlobs));
  }
  Client client(cache.port());
  client.send("GET", "/v2/origin.test/library/app/blobs/" + wanted);
  REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kBlobs - kForBlobs + 1));
  // A little at a time, as long as it takes until somebody makes room; all of it would be the end of this test.
  std::atomic<bool> served{false};
  std::thread trickle([&] {
    for (std::size_t i = 0; !served && i < 200; ++i) {
      const std::uint64_t before = origin.seen().body_bytes;
      line->allow(4 * 1024);
      (void)origin.wait_until([&](const auto& seen) { return served || seen.body_bytes > before; });
    }
  });
  const Response response = client.read_response();
  served = true;
  line->allow(1);
  trickle.join();
  CHECK(response.status == 200);
  CHECK((response.body == content(1000, 3)));
  CHECK(cache.metric("sluice_fills_failed_total") == 0);
  CHECK(cache.metric("sluice_fills_completed_total") <= 1);
  REQUIRE(cache.stop());
}

TEST_CASE("Proxy and origin: clients that take little at a time leave their connections to who waits",
          "[proxy][doors]") {
  constexpr std::size_t kSlow = 3;  // as many as blobs have slots
  const std::string blob = content(32 << 20);
  ScriptedOrigin origin;
  std::vector<std::string> paths;
  for (std::size_t i = 0; i < kSlow; ++i) {
    paths.push_back("/v2/origin.test/library/app/blobs/" + origin.add_blob("library/app", std::to_string(i) + blob));
  }
  const std::string wanted = origin.add_blob("library/app", content(1000, 3));
  Fixture cache({.window_patience = 4s, .origin_url = origin.url(), .origin_connections = 4, .origin_patience = 20s});
  // One has a download, the others have ranges that are passed through.
  const auto fields = [](std::size_t i) { return i == 0 ? Fields{} : Fields{{"Range", "bytes=20000000-27999999"}}; };
  std::atomic<bool> served{false};
  std::atomic<std::size_t> begun{0};
  std::vector<Response> responses(kSlow);
  std::vector<std::thread> slow;
  for (std::size_t i = 0; i < kSlow; ++i) {
    slow.emplace_back([&, i] {
      Client client(cache.port(), 4096);
      client.send("GET", paths[i], fields(i));
      Response& response = responses[i];
      response = client.read_head();
      ++begun;
      std::string taken;
      // Never so little that it takes nothing for as long as that; all of it would take longer than anybody waits.
      while (!served && taken.size() < 7'000'000) {
        taken += client.read_bytes(4 * 1024);
        std::this_thread::sleep_for(20ms);
      }
      const std::size_t length = i == 0 ? blob.size() + 1 : 8'000'000;
      response.body = taken + client.read_bytes(length - taken.size());
    });
  }
  while (begun < kSlow) std::this_thread::yield();
  const Response response = get(cache.port(), "/v2/origin.test/library/app/blobs/" + wanted);
  served = true;
  for (std::thread& thread : slow) thread.join();
  CHECK(response.status == 200);
  CHECK((response.body == content(1000, 3)));
  for (std::size_t i = 0; i < kSlow; ++i) {
    const std::string whole = std::to_string(i) + blob;
    CHECK(responses[i].status == (i == 0 ? 200 : 206));
    CHECK((responses[i].body == (i == 0 ? whole : whole.substr(20'000'000, 8'000'000))));
  }
}

TEST_CASE("Proxy and origin: a range of what has no known length is waited for until the client needs an answer",
          "[proxy]") {
  const std::string blob = content(300'000);
  ScriptedOrigin origin;
  const auto line = std::make_shared<Gate>(1000);
  const std::string digest = origin.add_blob("library/app", blob);
  origin.respond(ScriptedOrigin::blob_path("library/app", digest), [&](const Request& request) {
    Reply reply = origin.regular(request);
    reply.framing = Framing::chunked;
    reply.ranges = false;
    if (request.method == "GET") reply.gate = line;
    return reply;
  });
  Fixture cache({.origin_url = origin.url(), .origin_patience = 20s, .origin_request_timeout = 2s});
  const std::string path = "/v2/origin.test/library/app/blobs/" + digest;
  SECTION("all from some byte on: the whole, of which the client can skip what comes before") {
    Client client(cache.port());
    client.send("GET", path, {{"Range", "bytes=100-"}});
    Response response = client.read_head();
    line->open();
    client.read_rest(response);
    CHECK(response.status == 200);
    CHECK(response.complete);
    CHECK((response.body == blob));
  }
  SECTION("a part: an error, and the part when it has come") {
    const Response late = get(cache.port(), path, {{"Range", "bytes=200000-200099"}});
    CHECK(late.status == 504);
    line->open();
    REQUIRE(cache.wait_idle());
    const Response response = get(cache.port(), path, {{"Range", "bytes=200000-200099"}});
    CHECK(response.status == 206);
    CHECK((response.body == blob.substr(200'000, 100)));
  }
}

TEST_CASE("Proxy and origin: a length that only a broken download has told is not held against HEADs", "[proxy]") {
  const std::string blob = content(1000);
  ScriptedOrigin origin;
  const std::string digest = origin.add_blob("library/app", blob);
  std::atomic<int> gets{0};
  origin.respond(ScriptedOrigin::blob_path("library/app", digest), [&](const Request& request) {
    Reply reply = origin.regular(request);
    if (request.method != "GET" || gets++ > 0) {
      if (request.method == "GET") reply.status = 500;
      return reply;
    }
    reply.announced = 5000;
    reply.cut_after = 500;
    return reply;
  });
  Fixture cache({.descriptor_ttl = 1min, .origin_url = origin.url(), .origin_patience = 20s});
  const std::string path = "/v2/origin.test/library/app/blobs/" + digest;
  CHECK_FALSE(get(cache.port(), path).complete);
  REQUIRE(cache.wait_idle());
  cache.clock().advance(2min);
  const Response known = head(cache.port(), path);
  CHECK(known.status == 200);
  CHECK(known.field("content-length") == "1000");
}

TEST_CASE("Proxy and origin: a client that asks for much waits for itself", "[proxy][doors]") {
  constexpr std::size_t kMany = 40;
  ScriptedOrigin origin;
  Fixture cache({.origin_url = origin.url(), .origin_connections = 2, .origin_patience = 20s});
  const std::string type(oci::media_type::kOciManifest);
  const auto gate = std::make_shared<Gate>();
  const auto path = [](const std::string& tag) { return "/library/app/manifests/" + tag; };
  const auto add = [&](const std::string& tag) {
    Reply reply;
    reply.body = image_manifest(static_cast<unsigned>(std::hash<std::string>()(tag)), type);
    reply.fields = {{"Content-Type", type}};
    reply.head_gate = gate;
    origin.respond("/v2" + path(tag), [reply](const Request&) { return reply; });
  };
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < kMany; ++i) {
    const std::string tag = "t" + std::to_string(i);
    add(tag);
    clients.push_back(std::make_unique<Client>(cache.port()));
    clients.back()->send("GET", "/v2/origin.test" + path(tag));
  }
  const metrics::Labels labels{{"upstream", "origin.test"}};
  REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kMany - 2, labels));
  add("late");
  Client late(cache.port(), 0, 2);
  late.send("GET", "/v2/origin.test" + path("late"));
  REQUIRE(cache.wait_for_metric("sluice_upstream_waiting", kMany - 1, labels));
  gate->open();
  CHECK(late.read_response().status == 200);
  for (const auto& client : clients) CHECK(client->read_response().status == 200);
  const std::vector<Request> requests = origin.requests();
  const auto at = std::find_if(requests.begin(), requests.end(),
                               [&](const Request& request) { return request.target.ends_with("/late"); });
  REQUIRE(at != requests.end());
  // Behind the two that ran and the one that had its turn before; some others may overtake it on the way.
  CHECK(static_cast<std::size_t>(at - requests.begin()) < kMany / 2);
}

TEST_CASE("Proxy and origin: a client is answered in time, and joins what it has begun", "[proxy]") {
  ScriptedOrigin origin;
  const std::string blob = content(300'000);
  const std::string digest = origin.add_blob("library/app", blob);
  // Also where a download whose readers have all left is given up.
  const auto abandoned = GENERATE(streamcache::Abandoned::finish, streamcache::Abandoned::fail);
  Fixture cache{{.abandoned = abandoned,
                 .origin_url = origin.url(),
                 .origin_patience = std::chrono::milliseconds(30'000),
                 .origin_request_timeout = std::chrono::milliseconds(1500),
                 .origin_endpoint_timeout = std::chrono::milliseconds(300),
                 .origin_first_byte_timeout = std::chrono::milliseconds(30'000)}};
  const std::string path = "/v2/origin.test/library/app/blobs/" + digest;
  const std::string upstream_path = ScriptedOrigin::blob_path("library/app", digest);
  const auto gate = std::make_shared<Gate>();
  origin.respond(upstream_path, [&origin, gate](const auto& request) {
    Reply reply = origin.regular(request);
    reply.head_gate = gate;
    return reply;
  });
  const auto begun = std::chrono::steady_clock::now();
  const Response late = get(cache.port(), path);
  CHECK(late.status == 504);
  CHECK(error_code(late.body) == "UNAVAILABLE");
  CHECK(late.field("retry-after") == "5");
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(5));
  // Silent once, then asked for by itself, which goes on.
  CHECK(origin.wait_until([&](const auto& seen) { return seen.count(upstream_path) == 2; }));
  Response again;
  std::thread client([&] { again = get(cache.port(), path); });
  CHECK(cache.wait_for_metric("sluice_fill_readers", 2));
  gate->open();
  client.join();
  CHECK(again.status == 200);
  CHECK((again.body == blob));
  CHECK(origin.count(upstream_path) == 2);
  CHECK(cache.wait_for_metric("sluice_fill_readers", 0));
}

TEST_CASE("Proxy and origin: a tag that cannot be asked about in time is served as it was", "[proxy]") {
  ScriptedOrigin origin;
  const std::string type(oci::media_type::kOciManifest);
  const std::string manifest = image_manifest(1, type);
  origin.add_manifest("library/app", "latest", manifest, type);
  Fixture cache{{.tag_ttl = std::chrono::milliseconds(0),
                 .origin_url = origin.url(),
                 .origin_patience = std::chrono::milliseconds(30'000),
                 .origin_request_timeout = std::chrono::milliseconds(700)}};
  const std::string path = "/v2/origin.test/library/app/manifests/latest";
  REQUIRE(get(cache.port(), path).status == 200);
  const auto gate = std::make_shared<Gate>();
  origin.respond(ScriptedOrigin::manifest_path("library/app", "latest"), [gate](const auto&) {
    Reply reply;
    reply.head_gate = gate;
    return reply;
  });
  const auto begun = std::chrono::steady_clock::now();
  const Response stale = get(cache.port(), path);
  CHECK(stale.status == 200);
  CHECK((stale.body == manifest));
  CHECK(stale.field("warning").starts_with("110 "));
  CHECK(std::chrono::steady_clock::now() - begun < std::chrono::seconds(5));
  gate->open();
}

TEST_CASE("Proxy and origin: a cache that asks itself notices it at once", "[proxy]") {
  // The origin is the second cache of the loop: it asks the first one what it is asked.
  ScriptedOrigin origin;
  const std::string type(oci::media_type::kOciManifest);
  const std::string manifest = image_manifest(1, type);
  origin.add_manifest("library/app", "latest", manifest, type);
  Fixture cache{{.origin_url = origin.url(), .pseudonym = "cache-1"}};
  const std::string path = "/v2/origin.test/library/app/manifests/latest";
  for (const std::string_view at : {std::string_view(path), std::string_view("/v2/")}) {
    const Response loop = get(cache.port(), at, {{"Via", "1.1 edge, 1.1 cache-1"}});
    CHECK(loop.status == 508);
    CHECK(error_code(loop.body) == "UNAVAILABLE");
  }
  CHECK(get(cache.port(), path, {{"Via", "1.1 " + std::string(5000, 'x')}}).status == 508);
  CHECK(origin.requests().empty());

  // A chain is none.
  const Response chained = get(cache.port(), path, {{"Via", "1.1 edge"}});
  CHECK(chained.status == 200);
  CHECK((chained.body == manifest));
  CHECK(origin.requests().at(0).field("Via") == "1.1 edge, 1.1 cache-1");
}

TEST_CASE("Proxy and origin: a ping tells upstream where it has come through", "[proxy][doors]") {
  ScriptedOrigin origin;
  Fixture cache{{.origin_url = origin.url(), .origin_passthrough = access::Passthrough{}, .pseudonym = "cache-1"}};
  CHECK(get(cache.port(), "/v2/?ns=origin.test", {{"Via", "1.1 edge"}}).status == 200);
  REQUIRE(origin.count("/v2/") == 1);
  CHECK(origin.requests().at(0).field("Via") == "1.1 edge, 1.1 cache-1");
  CHECK(get(cache.port(), "/v2/?ns=origin.test", {{"Via", "1.1 cache-1"}}).status == 508);
}

TEST_CASE("Proxy and origin: a list of many slow pages keeps nobody waiting", "[proxy][doors]") {
  constexpr std::size_t kPages = 16;
  ScriptedOrigin origin;
  origin.respond("/v2/library/app/tags/list", [](const Request& request) {
    std::this_thread::sleep_for(300ms);
    const std::string last = request.query("last");
    const std::size_t page = last.empty() ? 0 : std::stoul(last);
    Reply reply;
    reply.fields = {{"Content-Type", "application/json"}};
    if (page + 1 < kPages) {
      reply.fields.emplace_back("Link",
                                "</v2/library/app/tags/list?last=" + std::to_string(page + 1) + ">; rel=\"next\"");
    }
    reply.body = R"({"name":"library/app","tags":["v)" + std::to_string(page) + "\"]}";
    return reply;
  });
  Fixture cache{{.origin_url = origin.url(),
                 .origin_patience = std::chrono::milliseconds(30'000),
                 .origin_request_timeout = std::chrono::milliseconds(2000)}};
  const std::string path = "/v2/origin.test/library/app/tags/list";
  // Each page comes in time, all of them do not.
  CHECK(get(cache.port(), path).status == 504);
  Response whole;
  const auto limit = std::chrono::steady_clock::now() + 60s;
  do {
    whole = get(cache.port(), path);
  } while (whole.status == 504 && std::chrono::steady_clock::now() < limit);
  CHECK(whole.status == 200);
  CHECK(whole.field("warning").empty());
  for (std::size_t page = 0; page < kPages; ++page) {
    CHECK(whole.body.find("\"v" + std::to_string(page) + "\"") != std::string::npos);
  }
  // Who came again has joined what was under way.
  CHECK(origin.count("/v2/library/app/tags/list") == kPages);
}

TEST_CASE("Proxy and origin: two caches that ask each other", "[proxy]") {
  ScriptedOrigin relay;  // stands between them: its address is known before theirs
  Fixture one{{.origin_url = relay.url(), .pseudonym = "cache-1"}};
  Fixture two{{.origin_url = "http://127.0.0.1:" + std::to_string(one.port()) + "/", .pseudonym = "cache-2"}};
  relay.respond("/v2/library/app/manifests/latest", [&](const auto& request) {
    const Response from_two =
        get(two.port(), "/v2/origin.test/origin.test/library/app/manifests/latest", {{"Via", request.field("Via")}});
    Reply reply;
    reply.status = static_cast<int>(from_two.status);
    reply.body = from_two.body;
    return reply;
  });
  CHECK(get(one.port(), "/v2/origin.test/library/app/manifests/latest").status == 508);
  // Each cache on the way hands it on, and asks no second time.
  CHECK(relay.requests().size() == 1);
  // A line is written behind the answer.
  const auto loops = [&one] {
    const std::vector<std::string> log = one.access_log();
    return std::count_if(log.begin(), log.end(),
                         [](const std::string& line) { return line.find("status=508") != std::string::npos; });
  };
  const auto give_up = std::chrono::steady_clock::now() + 20s;
  while (loops() < 2 && std::chrono::steady_clock::now() < give_up) std::this_thread::sleep_for(1ms);
  CHECK(loops() == 2);
}

TEST_CASE("Proxy and origin: answers to tags say that they depend on Accept", "[proxy]") {
  ScriptedOrigin origin;
  const std::string type(oci::media_type::kOciManifest);
  const std::string digest = origin.add_manifest("library/app", "latest", image_manifest(1, type), type);
  Fixture cache{{.origin_url = origin.url()}};
  const std::string path = "/v2/origin.test/library/app/manifests/";
  CHECK(get(cache.port(), path + "latest").field("vary") == "Accept");
  CHECK(get(cache.port(), path + "latest", {{"If-None-Match", "\"" + digest + "\""}}).status == 304);
  CHECK(get(cache.port(), path + "latest", {{"If-None-Match", "\"" + digest + "\""}}).field("vary") == "Accept");
  CHECK(get(cache.port(), path + "none").field("vary") == "Accept");
  CHECK(get(cache.port(), path + digest).field("vary").empty());
}

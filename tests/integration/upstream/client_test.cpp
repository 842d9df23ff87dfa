// http::Client against a scripted origin: what HttpRegistry does not show of it.
#include "bench.hpp"

namespace sluice::upstream {
namespace {

using http::Channel;
using http::Client;
using http::ClientRequest;
using http::Url;

struct Answer {
  std::optional<Error> error;
  int status = 0;
  std::string body;
};

Task<Answer> fetch(Client& client, ClientRequest request, std::shared_ptr<const Channel> channel) {
  Answer out;
  auto response = co_await client.send(std::move(request), std::move(channel));
  if (!response) {
    out.error = response.error();
    co_return out;
  }
  out.status = (*response)->status();
  auto body = co_await (*response)->read_all(16 << 20);
  if (!body) {
    out.error = body.error();
    co_return out;
  }
  out.body = std::move(*body);
  co_return out;
}

class Fixture {
 public:
  explicit Fixture(std::size_t loop_count = 1, Client::Params params = {})
      : loops(loop_count), client(with_loops(params, loop_count)), channel(std::make_shared<Channel>()) {}
  ~Fixture() { loops.stop(); }
  static Client::Params with_loops(Client::Params params, std::size_t loop_count) {
    params.loops = loop_count;
    return params;
  }
  Answer get(const std::string& path, std::string method = "GET") {
    return loops.run(fetch(client, {std::move(method), *Url::parse(origin.url(path)), {}}, channel));
  }

  ScriptedOrigin origin;
  LoopRunner loops;
  Client client;
  std::shared_ptr<Channel> channel;
};

Reply text(std::string body) {
  Reply reply;
  reply.body = std::move(body);
  return reply;
}

TEST_CASE("Client: keeps connections", "[http]") {
  Fixture fixture;
  fixture.origin.respond("/a", [](const Request&) { return text("hello"); });
  for (int i = 0; i < 5; ++i) CHECK(fixture.get("/a").body == "hello");
  CHECK(fixture.get("/a", "HEAD").body.empty());
  CHECK(fixture.origin.seen().connections == 1);
}

TEST_CASE("Client: a kept connection that died is replaced", "[http]") {
  Fixture fixture;
  Reply leaving = text("bye");
  leaving.close_unannounced = true;
  fixture.origin.script("/a", leaving);
  fixture.origin.respond("/a", [](const Request&) { return text("hello"); });
  CHECK(fixture.get("/a").body == "bye");
  REQUIRE(fixture.origin.wait_until([](const auto& seen) { return seen.open == 0; }));
  CHECK(fixture.get("/a").body == "hello");
  CHECK(fixture.origin.seen().connections == 2);
}

TEST_CASE("Client: a kept connection that dies under the request is replaced once", "[http]") {
  Fixture fixture;
  fixture.origin.script("/a", text("first"));
  Reply dying;
  dying.raw = "";
  dying.cut_after = 0;
  fixture.origin.script("/a", dying);
  fixture.origin.script("/a", text("second"));
  CHECK(fixture.get("/a").body == "first");
  CHECK(fixture.get("/a").body == "second");
  CHECK(fixture.origin.count("/a") == 3);
  // On a new connection it is an answer like any other.
  fixture.origin.script("/a", 2, dying);
  const Answer got = fixture.get("/a");
  REQUIRE(got.error);
  CHECK(got.error->code == Errc::upstream_unreachable);
  CHECK(fixture.origin.count("/a") == 5);
}

TEST_CASE("Client: not replaced once a byte of the answer was there", "[http]") {
  Fixture fixture;
  fixture.origin.script("/a", text("first"));
  Reply dying;
  dying.raw = "HTTP/1.1 2";
  dying.cut_after = 10;
  fixture.origin.script("/a", dying);
  CHECK(fixture.get("/a").body == "first");
  CHECK(fixture.get("/a").error->code == Errc::upstream_unreachable);
  CHECK(fixture.origin.count("/a") == 2);
}

TEST_CASE("Client: closes where it was told to", "[http]") {
  Fixture fixture;
  Reply reply = text("x");
  reply.close = true;
  fixture.origin.respond("/a", [reply](const Request&) { return reply; });
  CHECK(fixture.get("/a").body == "x");
  CHECK(fixture.get("/a").body == "x");
  CHECK(fixture.origin.seen().connections == 2);
  Reply old;
  old.raw = "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold";
  fixture.origin.respond("/b", [old](const Request&) { return old; });
  CHECK(fixture.get("/b").body == "old");
  CHECK(fixture.get("/b").body == "old");
  CHECK(fixture.origin.seen().connections == 4);
}

TEST_CASE("Client: idle connections are bounded in number", "[http]") {
  Fixture fixture(1, {.idle_limit_per_host = 2});
  const auto gate = std::make_shared<Gate>();
  Reply reply = text("x");
  reply.gate = gate;
  fixture.origin.respond("/a", [reply](const Request&) { return reply; });
  std::vector<std::future<Answer>> running;
  for (int i = 0; i < 5; ++i) {
    running.push_back(fixture.loops.start(
        fetch(fixture.client, {"GET", *Url::parse(fixture.origin.url("/a")), {}}, fixture.channel)));
  }
  REQUIRE(fixture.origin.wait_until([](const auto& seen) { return seen.requests.size() == 5; }));
  gate->open();
  for (auto& one : running) CHECK(one.get().body == "x");
  CHECK(fixture.origin.wait_until([](const auto& seen) { return seen.open == 2; }));
}

TEST_CASE("Client: idle connections are closed when they are old", "[http]") {
  Fixture fixture(1, {.idle_age = std::chrono::milliseconds(20)});
  fixture.origin.respond("/a", [](const Request&) { return text("x"); });
  CHECK(fixture.get("/a").body == "x");
  CHECK(fixture.origin.wait_until([](const auto& seen) { return seen.open == 0; }));
}

TEST_CASE("Client: connections to one host are capped, and waited for", "[http]") {
  Fixture fixture;
  fixture.channel->max_connections_per_host = 2;
  const auto gate = std::make_shared<Gate>();
  Reply held = text("held");
  held.gate = gate;
  fixture.origin.respond("/held", [held](const Request&) { return held; });
  fixture.origin.respond("/next", [](const Request&) { return text("next"); });
  const auto start = [&](const std::string& path) {
    return fixture.loops.start(
        fetch(fixture.client, {"GET", *Url::parse(fixture.origin.url(path)), {}}, fixture.channel));
  };
  auto one = start("/held");
  auto two = start("/held");
  REQUIRE(fixture.origin.wait_until([](const auto& seen) { return seen.requests.size() == 2; }));
  auto three = start("/next");
  auto four = start("/held");
  auto five = start("/next");
  // The third is not sent before one of the first two has ended.
  (void)fixture.loops.run(fetch(fixture.client, {"GET", *Url::parse("http://127.0.0.1:1/"), {}}, fixture.channel));
  CHECK(fixture.origin.seen().requests.size() == 2);
  gate->open();
  CHECK(one.get().body == "held");
  CHECK(two.get().body == "held");
  CHECK(three.get().body == "next");
  CHECK(four.get().body == "held");
  CHECK(five.get().body == "next");
  CHECK(fixture.origin.seen().requests.size() == 5);
  CHECK(fixture.origin.seen().connections <= 2);
}

TEST_CASE("Client: waiting for a connection ends", "[http]") {
  Fixture fixture;
  fixture.channel->max_connections_per_host = 1;
  fixture.channel->headers_timeout = std::chrono::seconds(20);
  const auto gate = std::make_shared<Gate>();
  Reply held = text("held");
  held.gate = gate;
  fixture.origin.respond("/held", [held](const Request&) { return held; });
  const auto request = [&](const std::string& path) {
    return fetch(fixture.client, {"GET", *Url::parse(fixture.origin.url(path)), {}}, fixture.channel);
  };
  SECTION("when the one who waits is cancelled, and the next gets its turn") {
    auto first = fixture.loops.start(request("/held"));
    REQUIRE(fixture.origin.wait_until([](const auto& seen) { return seen.requests.size() == 1; }));
    runtime::TaskGroup group("waiting");
    auto second = fixture.loops.start_in(group, request("/held"));
    auto third = fixture.loops.start(request("/held"));
    group.cancel();
    CHECK(group.wait_for(std::chrono::seconds(20)));
    gate->open();
    CHECK(first.get().body == "held");
    CHECK(third.get().body == "held");
    CHECK(fixture.origin.count("/held") == 2);
  }
  SECTION("when it takes too long") {
    fixture.channel->headers_timeout = std::chrono::milliseconds(20);
    fixture.channel->stall_timeout = std::chrono::seconds(60);
    auto first = fixture.loops.start(request("/held"));
    REQUIRE(fixture.origin.wait_until([](const auto& seen) { return seen.requests.size() == 1; }));
    const Answer second = fixture.loops.run(request("/held"));
    REQUIRE(second.error);
    CHECK(second.error->code == Errc::overloaded);
    gate->open();
    CHECK(first.get().body == "held");
  }
}

TEST_CASE("Client: interim answers are skipped", "[http]") {
  Fixture fixture;
  Reply reply;
  reply.raw =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
      "2\r\n\r\nok";
  fixture.origin.script("/a", reply);
  CHECK(fixture.get("/a").body == "ok");
  reply.raw = "";
  for (int i = 0; i < 100; ++i) *reply.raw += "HTTP/1.1 100 Continue\r\n\r\n";
  fixture.origin.script("/a", reply);
  CHECK(fixture.get("/a").error->code == Errc::upstream_protocol);
}

TEST_CASE("Client: 204 and 304 have no body, and what follows is not an answer", "[http]") {
  Fixture fixture;
  fixture.origin.respond("/next", [](const Request&) { return text("next"); });
  for (const char* raw : {"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil",
                          "HTTP/1.1 304 Not Modified\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"}) {
    Reply reply;
    reply.raw = raw;
    fixture.origin.script("/a", reply);
    CHECK(fixture.get("/a").body.empty());
    CHECK(fixture.get("/next").body == "next");
  }
}

TEST_CASE("Client: a name with several addresses", "[http]") {
  // localhost is usually ::1 as well, where nobody listens on this port.
  Fixture fixture;
  fixture.origin.respond("/a", [](const Request&) { return text("x"); });
  Url url = *Url::parse(fixture.origin.url("/a"));
  url.host = "localhost";
  CHECK(fixture.loops.run(fetch(fixture.client, {"GET", url, {}}, fixture.channel)).body == "x");
}

TEST_CASE("Client: every loop has its own connections", "[http]") {
  Fixture fixture(2);
  fixture.origin.respond("/a", [](const Request&) { return text("x"); });
  for (int i = 0; i < 4; ++i) {
    for (const std::size_t loop : {0U, 1U}) {
      CHECK(fixture.loops
                .run(fetch(fixture.client, {"GET", *Url::parse(fixture.origin.url("/a")), {}}, fixture.channel), loop)
                .body == "x");
    }
  }
  CHECK(fixture.origin.seen().connections == 2);
}

TEST_CASE("Client: nothing splits a request", "[http]") {
  Fixture fixture;
  ClientRequest request{"GET", *Url::parse(fixture.origin.url("/a")), {{"X", "a\r\nY: b"}}};
  CHECK(fixture.loops.run(fetch(fixture.client, request, fixture.channel)).error->code == Errc::internal);
  request.fields.clear();
  request.url.target = "/a HTTP/1.1\r\nX: y\r\n\r\n";
  CHECK(fixture.loops.run(fetch(fixture.client, request, fixture.channel)).error->code == Errc::internal);
  CHECK(fixture.origin.requests().empty());
}

TEST_CASE("Client: https without a TLS context is refused", "[http]") {
  Fixture fixture;
  CHECK(fixture.loops.run(fetch(fixture.client, {"GET", *Url::parse("https://127.0.0.1:1/"), {}}, fixture.channel))
            .error->code == Errc::internal);
}

}  // namespace
}  // namespace sluice::upstream

// Addresses, and the end of a server.
#include <future>
#include <vector>

#include <boost/asio/post.hpp>

#include <catch2/catch.hpp>

#include "base/errc.hpp"
#include "test_handler.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

TEST_CASE("Server: idle connections end when it stops, answers in flight are finished", "[http]") {
  TestServer test;
  RawClient idle = test.connect();
  idle.get("/hello");
  CHECK(idle.answer().status == 200);
  RawClient busy = test.connect();
  busy.get("/hold");
  REQUIRE(eventually([&] { return test.handler.holding == 1; }));

  test.server.stop_accepting();
  CHECK(idle.end() == RawClient::End::fin);
  CHECK_FALSE(test.server.drain(0s));
  test.handler.open = true;
  const Answer answer = busy.answer();
  CHECK(answer.body == "held");
  CHECK(answer.field("Connection") == "close");
  CHECK(busy.end() == RawClient::End::fin);
  CHECK(test.server.drain(10s));
  CHECK(test.server.connections() == 0);
  CHECK_THROWS(test.connect());
}

TEST_CASE("Server: cancel cuts what is left, with FIN", "[http]") {
  TestServer test;
  test.make_file(50'000'000);
  RawClient held = test.connect();
  held.get("/hold");
  RawClient stalled = test.connect(4096);
  stalled.get("/file");
  CHECK(stalled.read_head().starts_with("HTTP/1.1 200"));
  // What is served already: of a connection that nobody has looked at yet, unread bytes make a reset.
  RawClient half = test.connect();
  half.get("/hello");
  CHECK(half.answer().status == 200);
  half.send("GET /hel");
  REQUIRE(eventually([&] { return test.handler.holding == 1; }));

  test.server.stop_accepting();
  CHECK_FALSE(test.server.drain(10ms));
  test.server.cancel();
  CHECK(test.server.drain(10s));
  CHECK(held.end() == RawClient::End::fin);
  CHECK(stalled.end() == RawClient::End::fin);
  CHECK(half.end() == RawClient::End::fin);
}

TEST_CASE("Server: a request that is on the way when it stops is answered", "[http]") {
  TestServer test;
  std::vector<RawClient> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(test.connect());
  for (RawClient& client : clients) client.send("GET /hello HTTP/1.1\r\n");
  // The last to be accepted on each loop is the last to be read; all of them have begun then.
  REQUIRE(eventually([&] { return test.server.connections() == 20; }));
  test.server.stop_accepting();
  // A loop that has not heard of it yet may answer as before: what is posted now runs behind the stop.
  for (std::size_t i = 0; i < test.loops.size(); ++i) {
    std::promise<void> heard;
    runtime::asio::post(test.loops.at(i).get_executor(), [&heard] { heard.set_value(); });
    heard.get_future().wait();
  }
  int answered = 0;
  for (RawClient& client : clients) {
    client.send("Host: a\r\n\r\n");
    const Answer answer = client.answer();
    answered += answer.status == 200 && answer.field("Connection") == "close" ? 1 : 0;
  }
  CHECK(answered == 20);
  CHECK(test.server.drain(10s));
}

TEST_CASE("Server: who does not finish a request does not hold up the end", "[http]") {
  http::Server::Params params;
  params.header_timeout = 10min;
  params.idle_timeout = 10min;
  TestServer test(params);
  RawClient kept = test.connect();
  kept.get("/hello");
  CHECK(kept.answer().status == 200);
  kept.send("GET /hel");
  RawClient fresh = test.connect();
  fresh.send("GET /hel");
  REQUIRE(eventually([&] { return test.server.connections() == 2; }));
  test.server.stop_accepting();
  CHECK(kept.answer().status == 408);
  CHECK(fresh.answer().status == 408);
  CHECK(test.server.drain(30s));
}

TEST_CASE("Server: stopping and cancelling are idempotent, and work before listening", "[http]") {
  metrics::Registry registry;
  TestHandler handler;
  runtime::LoopPool loops(1);
  loops.start();
  http::Server server(loops, handler, {}, registry);
  CHECK(server.port() == 0);
  server.stop_accepting();
  server.cancel();
  server.cancel();
  CHECK(server.drain(1s));
}

TEST_CASE("Server: the addresses that it listens on", "[http]") {
  for (const char* address : {"127.0.0.1:0", ":0", "localhost:0", "[::]:0", "0.0.0.0:0"}) {
    INFO(address);
    metrics::Registry registry;
    TestHandler handler;
    runtime::LoopPool loops(2);
    loops.start();
    http::Server server(loops, handler, {}, registry);
    const auto listening = server.listen(address);
    if (!listening && std::string(address) == "[::]:0") continue;  // a machine without IPv6
    REQUIRE(listening.has_value());
    REQUIRE(server.port() != 0);
    RawClient client(server.port());
    client.get("/echo");
    const Answer answer = client.answer();
    CHECK(answer.status == 200);
    CHECK(answer.body.find(" 127.0.0.1:") != std::string::npos);
    const auto again = server.listen(address);
    CHECK_FALSE(again.has_value());
  }
}

TEST_CASE("Server: an address that cannot be listened on is named", "[http]") {
  TestServer test;
  metrics::Registry registry;
  http::Server second(test.loops, test.handler, {}, registry);
  const std::string taken = "127.0.0.1:" + std::to_string(test.server.port());
  const auto in_use = second.listen(taken);
  REQUIRE_FALSE(in_use.has_value());
  CHECK(in_use.error().code == Errc::exists);
  CHECK(in_use.error().message == "cannot listen on " + taken + ": another program is listening there");
  for (const char* address : {"", "5000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:5000",
                              "example:5000", "127.0.0.1:5000 ", "192.0.2.1:0"}) {
    INFO(address);
    const auto listening = second.listen(address);
    REQUIRE_FALSE(listening.has_value());
    CHECK(listening.error().message.find(address) != std::string::npos);
  }
}

// UBSan looks at the type of an object through a pipe, and takes it for a wrong one when there is no descriptor left.
#if !__has_feature(undefined_behavior_sanitizer)
TEST_CASE("Server: out of descriptors it waits, and goes on when there are some", "[http]") {
  TestServer test;
  RawClient first = test.connect();
  first.get("/hello");
  CHECK(first.answer().status == 200);
  RawClient second = [&] {
    // The client's own descriptor is the last one there is.
    std::vector<int> taken;
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) taken.push_back(fd);
    ::close(taken.back());
    taken.pop_back();
    RawClient client = test.connect();
    client.get("/hello");
    const bool noticed = eventually([&] { return test.metric("sluice_http_accept_errors_total") >= 1; });
    for (const int fd : taken) ::close(fd);
    REQUIRE(noticed);
    return client;
  }();
  CHECK(second.answer().status == 200);
}
#endif

// The event stream over real connections.
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "../../support/catch_result.hpp"
#include "../http_server/test_handler.hpp"
#include "admin/event_stream.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

class Page final : public http::Handler {
 public:
  runtime::Task<void> serve(http::Exchange& exchange) override { return events.serve(exchange); }

  void set(const std::string& html) {
    const std::scoped_lock lock(mutex_);
    html_ = html;
  }

  SystemClock clock;
  admin::EventStream events{{.listeners = 3, .interval = 20ms}, clock, [this] { return look(); }};

 private:
  runtime::Task<admin::Sections> look() {
    const std::scoped_lock lock(mutex_);
    co_return admin::Sections{{"a", html_}, {"b", "never changes"}};
  }

  std::mutex mutex_;  // guards html_
  std::string html_ = "first";
};

struct Bench {
  explicit Bench(http::Server::Params params = {}) : server(loops, page, params, registry) {
    loops.start();
    REQUIRE(server.listen("127.0.0.1:0"));
  }
  ~Bench() {
    server.stop_accepting();
    server.cancel();
    CHECK(server.drain(10s));
    loops.stop();
  }

  // One that listens; its head is read.
  RawClient listener(int receive_buffer = 0) {
    RawClient client(server.port(), receive_buffer);
    client.get("/events");
    CHECK(client.read_head().starts_with("HTTP/1.1 200 "));
    return client;
  }

  metrics::Registry registry;
  Page page;
  runtime::LoopPool loops{2, 5ms};
  http::Server server;
};

// The next event, its chunk unpacked.
nlohmann::json next_event(RawClient& client) {
  std::string size;
  while (!size.ends_with("\r\n")) {
    const std::string one = client.read(1);
    REQUIRE_FALSE(one.empty());
    size += one;
  }
  const std::string chunk = client.read(std::stoull(size, nullptr, 16));
  client.read(2);
  const std::size_t at = chunk.find("data: ");
  REQUIRE(at != std::string::npos);
  return nlohmann::json::parse(chunk.substr(at + 6));
}

}  // namespace

TEST_CASE("Event stream: all parts at first, then those that change, without asking again", "[admin]") {
  Bench bench;
  RawClient client = bench.listener();
  CHECK(next_event(client) == nlohmann::json{{"a", "first"}, {"b", "never changes"}});
  bench.page.set("second");
  CHECK(next_event(client) == nlohmann::json{{"a", "second"}});
  bench.page.set("third");
  CHECK(next_event(client) == nlohmann::json{{"a", "third"}});
}

TEST_CASE("Event stream: nobody looks while nobody listens", "[admin]") {
  Bench bench;
  std::this_thread::sleep_for(100ms);
  CHECK(bench.page.events.looks() == 0);
  {
    RawClient client = bench.listener();
    CHECK(next_event(client).size() == 2);
  }
  // That the client has left is noticed without anything to send to it.
  REQUIRE(eventually([&] { return bench.page.events.listeners() == 0; }));
  const std::size_t looks = bench.page.events.looks();
  std::this_thread::sleep_for(100ms);
  CHECK(bench.page.events.looks() == looks);
}

TEST_CASE("Event stream: one listener above the limit is refused, until another leaves", "[admin]") {
  Bench bench;
  std::vector<RawClient> listeners;
  for (int i = 0; i < 3; ++i) listeners.push_back(bench.listener());
  CHECK(bench.page.events.listeners() == 3);
  RawClient late(bench.server.port());
  late.get("/events");
  const Answer refused = late.answer();
  CHECK(refused.status == 503);
  CHECK(refused.field("Retry-After") == "30");
  CHECK(refused.body ==
        "3 pages listen already, which is the limit; close one, or reload this page to see newer figures\n");
  listeners.pop_back();
  REQUIRE(eventually([&] { return bench.page.events.listeners() == 2; }));
  RawClient next = bench.listener();
  CHECK(next_event(next).size() == 2);
}

TEST_CASE("Event stream: who takes nothing is dropped, and gets nothing stored for it", "[admin]") {
  Bench bench({.send_timeout = 3s, .send_buffer_bytes = 4096});
  RawClient stalled = bench.listener(4096);
  RawClient reader = bench.listener();
  CHECK(next_event(reader).size() == 2);
  for (char c = 'a'; c <= 'z' && bench.page.events.listeners() == 2; ++c) {
    bench.page.set(std::string(1 << 20, c));
    CHECK(next_event(reader)["a"].get<std::string>()[0] == c);
  }
  REQUIRE(eventually([&] { return bench.page.events.listeners() == 1; }));
  bench.page.set("small");
  CHECK(next_event(reader)["a"] == "small");
}

TEST_CASE("Event stream: it ends with the server", "[admin]") {
  Bench bench;
  RawClient client = bench.listener();
  CHECK(next_event(client).size() == 2);
  bench.server.stop_accepting();
  bench.server.cancel();
  CHECK(bench.server.drain(10s));
  CHECK(client.end() == RawClient::End::fin);
}

#include <chrono>
#include <string>
#include <string_view>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <boost/asio/co_spawn.hpp>

#include "admin/admin_handler.hpp"
#include "admin/status_assets.hpp"
#include "admin/status_page.hpp"
#include "http/framing.hpp"
#include "runtime/loop.hpp"

using namespace sluice;
using namespace sluice::admin;
using namespace std::chrono_literals;

namespace {

// Takes one whole answer.
class RecordingExchange final : public http::Exchange {
 public:
  explicit RecordingExchange(std::string_view request_line, std::string_view host = "localhost:5001",
                             std::string_view fields = {})
      : bytes_(std::string(request_line) + " HTTP/1.1\r\nHost: " + std::string(host) + "\r\n" + std::string(fields) +
               "\r\n"),
        refused_(http::parse_request(bytes_, request_).has_value()) {}

  const http::Request& request() const noexcept override { return request_; }
  runtime::Task<Result<void>> send(std::string_view head, std::string_view body) override {
    head_ = head;
    body_ = body;
    co_return Result<void>{};
  }
  runtime::Task<Result<void>> begin(std::string_view head) override {
    head_ = head;
    co_return Result<void>{};
  }
  // The client is gone after the first piece.
  runtime::Task<Result<void>> write(std::span<const std::byte> bytes) override {
    body_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    co_return Error{Errc::cancelled};
  }
  runtime::Task<Result<void>> send_file(const runtime::File&, std::uint64_t, std::uint64_t, http::Pages) override {
    co_return Error{Errc::closed};
  }
  runtime::Task<Result<void>> end() override { co_return Result<void>{}; }
  void break_off() noexcept override {}
  void close_after() noexcept override {}
  bool begun() const noexcept override { return !head_.empty(); }
  std::chrono::steady_clock::time_point begun_at() const noexcept override { return {}; }
  bool complete() const noexcept override { return begun(); }
  unsigned status() const noexcept override { return 0; }
  std::uint64_t body_bytes_sent() const noexcept override { return body_.size(); }
  bool peer_gone() noexcept override { return false; }

  bool refused() const { return refused_; }
  const std::string& head() const { return head_; }
  const std::string& body() const { return body_; }

 private:
  std::string bytes_;
  http::Request request_;
  bool refused_;
  std::string head_;
  std::string body_;
};

struct Bench {
  metrics::Registry registry;
  Readiness readiness;
  ManualClock clock;
  RecentRequests recent{clock};
  Overview overview{registry, readiness, clock, recent, {"1.2.3"}};
  AdminHandler handler{registry, readiness, clock, overview, {"1.2.3", nullptr, {"127.0.0.1", {"sluice"}}}};
};

void serve(Bench& bench, RecordingExchange& exchange) {
  runtime::Loop loop;
  boost::asio::co_spawn(loop.get_executor(), bench.handler.serve(exchange), [](std::exception_ptr) {});
  loop.run();
}

// The head that the handler sends to this request line.
std::string head_of(Bench& bench, std::string_view request_line) {
  RecordingExchange exchange(request_line);
  REQUIRE_FALSE(exchange.refused());
  serve(bench, exchange);
  return exchange.head();
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("Admin: /metrics speaks the Prometheus text format", "[admin]") {
  Bench bench;
  bench.registry.counter("a_total", "A.").add(5);
  const AdminHandler::Answer answer = bench.handler.answer("/metrics");
  CHECK(answer.status == 200);
  CHECK(answer.content_type == "text/plain; version=0.0.4; charset=utf-8");
  CHECK(has(answer.body, "\na_total 5\n"));
  CHECK(has(answer.body, "sluice_build_info{version=\"1.2.3\"} 1\n"));
  CHECK(has(answer.body, "process_open_fds "));
}

TEST_CASE("Admin: /healthz is about the process, /readyz about its conditions", "[admin]") {
  Bench bench;
  const Readiness::Condition store = bench.readiness.add("store", "not \xFF opened");
  CHECK(bench.handler.answer("/healthz").status == 200);
  CHECK(bench.handler.answer("/healthz").body == "ok\n");

  const AdminHandler::Answer waiting = bench.handler.answer("/readyz");
  CHECK(waiting.status == 503);
  CHECK(waiting.content_type == "application/json");
  const nlohmann::json said = nlohmann::json::parse(waiting.body);
  CHECK(said["ready"] == false);
  CHECK(said["checks"][0]["name"] == "store");
  CHECK(said["checks"][0]["ready"] == false);
  CHECK(said["checks"][0].contains("reason"));

  store.met();
  const AdminHandler::Answer ready = bench.handler.answer("/readyz");
  CHECK(ready.status == 200);
  CHECK(nlohmann::json::parse(ready.body) ==
        nlohmann::json::parse(R"({"ready":true,"checks":[{"name":"store","ready":true}]})"));
}

TEST_CASE("Admin: / is a page that knows how long it is up", "[admin]") {
  Bench bench;
  bench.clock.advance(90s);
  const AdminHandler::Answer answer = bench.handler.answer("/");
  CHECK(answer.status == 200);
  CHECK(answer.content_type == "text/html; charset=utf-8");
  CHECK(has(answer.body, "up for 1m30s"));
  // Nothing but the page itself may run or be loaded; nothing at all on the other answers.
  CHECK(answer.policy == status_policy());
  CHECK(has(head_of(bench, "GET /"), "Content-Security-Policy: " + status_policy() + "\r\n"));
  CHECK(has(head_of(bench, "GET /metrics"), "Content-Security-Policy: default-src 'none'; "));
}

TEST_CASE("Admin: /events streams the parts of the page", "[admin]") {
  Bench bench;
  RecordingExchange exchange("GET /events");
  serve(bench, exchange);
  CHECK(exchange.head().starts_with("HTTP/1.1 200 "));
  CHECK(has(exchange.head(), "Content-Type: text/event-stream\r\n"));
  CHECK(has(exchange.head(), "Transfer-Encoding: chunked\r\n"));
  REQUIRE(exchange.body().starts_with("retry: 3000\nevent: parts\ndata: {"));
  const std::string data = exchange.body().substr(exchange.body().find('{'));
  const nlohmann::json parts = nlohmann::json::parse(data);
  // Each by its title: the memory of the process, for one, is another at each look.
  for (const auto& [id, html] : render_sections(bench.overview.look())) {
    const std::string sent = parts[id];
    CHECK(sent.substr(0, sent.find("</h2>")) == html.substr(0, html.find("</h2>")));
  }
  CHECK(bench.handler.events().listeners() == 0);
  CHECK(head_of(bench, "POST /events").starts_with("HTTP/1.1 405 "));
  CHECK(head_of(bench, "HEAD /events").starts_with("HTTP/1.1 200 "));
}

TEST_CASE("Admin: no page of another origin may listen to /events", "[admin]") {
  Bench bench;
  const auto status = [&](std::string_view host, std::string_view fields) {
    RecordingExchange exchange("GET /events", host, fields);
    REQUIRE_FALSE(exchange.refused());
    serve(bench, exchange);
    return exchange.head().substr(9, 3);
  };
  CHECK(status("127.0.0.1:5001", "") == "200");
  CHECK(status("sluice:5001", "Sec-Fetch-Site: same-origin\r\n") == "200");
  CHECK(status("127.0.0.1:5001", "Sec-Fetch-Site: none\r\n") == "200");
  CHECK(status("attacker.example:5001", "") == "403");
  CHECK(status("127.0.0.1:5001", "Origin: http://attacker.example\r\n") == "403");
  CHECK(status("127.0.0.1:5001", "Sec-Fetch-Site: cross-site\r\n") == "403");
  CHECK(status("127.0.0.1:5001", "Sec-Fetch-Site: same-site\r\n") == "403");
  // Who was refused caused no look, and the others have shared one.
  CHECK(bench.handler.events().looks() == 1);
}

TEST_CASE("Admin: what tells about the program is read by its own names alone", "[admin]") {
  Bench bench;
  const auto status = [&](std::string_view path, std::string_view host) {
    RecordingExchange exchange("GET " + std::string(path), host);
    REQUIRE_FALSE(exchange.refused());
    serve(bench, exchange);
    return exchange.head().substr(9, 3);
  };
  for (const char* path : {"/metrics", "/readyz", "/"}) {
    INFO(path);
    CHECK(status(path, "127.0.0.1:5001") == "200");
    CHECK(status(path, "localhost") == "200");
    CHECK(status(path, "sluice:5001") == "200");
    // A page of this name, which its owner has pointed here (DNS rebinding).
    CHECK(status(path, "attacker.example:5001") == "403");
  }
  CHECK(status("/healthz", "attacker.example") == "200");
}

TEST_CASE("Admin: other paths are not there", "[admin]") {
  const Bench bench;
  for (const char* path : {"/metrics/", "/v2/", "", "/..", "*", "/api/v1"})
    CHECK(bench.handler.answer(path).status == 404);
}

TEST_CASE("Admin: GET and HEAD are answered, everything else is refused", "[admin]") {
  Bench bench;
  const std::string head = head_of(bench, "GET /healthz?x=1");
  CHECK(head.starts_with("HTTP/1.1 200 "));
  CHECK(has(head, "Content-Length: 3\r\n"));
  CHECK(has(head, "Cache-Control: no-store\r\n"));
  CHECK(head_of(bench, "HEAD /metrics").starts_with("HTTP/1.1 200 "));
  CHECK(head_of(bench, "GET /nothing").starts_with("HTTP/1.1 404 "));
  const std::string refused = head_of(bench, "DELETE /metrics");
  CHECK(refused.starts_with("HTTP/1.1 405 "));
  CHECK(has(refused, "Allow: GET, HEAD\r\n"));
}

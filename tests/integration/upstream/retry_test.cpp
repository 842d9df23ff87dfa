#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.hpp"

namespace sluice::upstream {
namespace {

// A port on loopback that nobody listens on: bound, so that nobody takes it.
class ClosedPort {
 public:
  ClosedPort() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ::bind(fd_, reinterpret_cast<sockaddr*>(&address), size);
    ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~ClosedPort() { ::close(fd_); }
  ClosedPort(const ClosedPort&) = delete;
  ClosedPort& operator=(const ClosedPort&) = delete;
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/"; }

 private:
  int fd_;
  std::uint16_t port_ = 0;
};

TEST_CASE("Retry: failures that may pass", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  for (const int status : {408, 500, 502, 503, 504, 520, 522, 524}) {
    INFO(status);
    Reply failing;
    failing.status = status;
    bench.origin.script(Bench::blob(name), 3, failing);
    const std::size_t before = bench.origin.count(Bench::blob(name));
    CHECK(bench.get(name).bytes == "content");
    CHECK(bench.origin.count(Bench::blob(name)) == before + 4);
  }
  CHECK(bench.metric("sluice_upstream_retries_total") == 24);
}

TEST_CASE("Retry: gives up", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  Reply failing;
  failing.status = 503;
  bench.origin.script(Bench::blob(name), 4, failing);
  const auto got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_failed);
  CHECK(bench.origin.count(Bench::blob(name)) == 4);
}

TEST_CASE("Retry: not what will not pass", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  for (const auto& [status, code] : std::vector<std::pair<int, Errc>>{{400, Errc::upstream_protocol},
                                                                      {403, Errc::denied},
                                                                      {404, Errc::blob_unknown},
                                                                      {501, Errc::upstream_failed},
                                                                      {508, Errc::upstream_loop}}) {
    INFO(status);
    Reply reply;
    reply.status = status;
    bench.origin.script(Bench::blob(name), reply);
    const std::size_t before = bench.origin.count(Bench::blob(name));
    CHECK(bench.get(name).opening->code == code);
    CHECK(bench.origin.count(Bench::blob(name)) == before + 1);
  }
}

TEST_CASE("Retry: 429 is passed on with its Retry-After", "[upstream]") {
  Bench bench;
  Reply reply;
  reply.status = 429;
  reply.fields = {{"Retry-After", "60"}};
  reply.body = R"({"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]})";
  bench.origin.script(Bench::manifest_path("latest"), reply);
  const auto got = bench.manifest("latest");
  REQUIRE_FALSE(got);
  CHECK(got.error().code == Errc::throttled);
  CHECK(got.error().retry_after == std::chrono::seconds(60));
  CHECK(got.error().message.find("pull rate limit") != std::string::npos);
  CHECK(bench.origin.requests().size() == 1);
}

TEST_CASE("Retry: a connection that breaks before the body", "[upstream]") {
  Bench bench;
  const std::string name = bench.origin.add_blob("app", "content");
  for (const bool reset : {false, true}) {
    Reply cut;
    cut.raw = "HTTP/1.1 200 OK\r\nContent-Le";
    cut.cut_after = cut.raw->size();
    cut.cut_with_reset = reset;
    bench.origin.script(Bench::blob(name), 2, cut);
    CHECK(bench.get(name).bytes == "content");
  }
}

TEST_CASE("Retry: nobody listens", "[upstream]") {
  Bench bench;
  const ClosedPort nobody;
  bench.params.base = *http::Url::parse(nobody.url());
  const auto got = bench.get(ScriptedOrigin::digest_of("x"));
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_unreachable);
  CHECK(bench.metric("sluice_upstream_requests_total", "error") == 4);
  CHECK(bench.metric("sluice_upstream_retries_total") == 3);
}

TEST_CASE("Retry: a host that does not resolve", "[upstream]") {
  Bench bench;
  bench.params.retries = 0;
  // A label longer than 63 characters: known to be no name without asking a server.
  bench.params.base = *http::Url::parse("http://" + std::string(64, 'a') + ".example/");
  const auto got = bench.get(ScriptedOrigin::digest_of("x"));
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_unreachable);
  CHECK(got.opening->message.find("resolve") != std::string::npos);
}

TEST_CASE("Retry: not beyond the total time", "[upstream]") {
  Bench bench;
  bench.params.total_timeout = std::chrono::milliseconds(4);
  bench.params.backoff_base = std::chrono::milliseconds(10);  // halved at the least
  const std::string name = bench.origin.add_blob("app", "content");
  Reply failing;
  failing.status = 500;
  bench.origin.script(Bench::blob(name), failing);
  CHECK(bench.get(name).opening->code == Errc::upstream_failed);
  CHECK(bench.origin.count(Bench::blob(name)) == 1);
}

TEST_CASE("Retry: headers that never come", "[upstream]") {
  Bench bench;
  bench.params.headers_timeout = std::chrono::milliseconds(20);
  bench.params.first_byte_timeout = std::chrono::milliseconds(20);
  const std::string name = bench.origin.add_blob("app", "content");
  Reply stuck;
  stuck.head_gate = std::make_shared<Gate>();
  bench.origin.script(Bench::blob(name), 2, stuck);
  const auto got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_timeout);
  CHECK(bench.origin.wait_until([](const auto& seen) { return seen.open == 0; }));
}

TEST_CASE("Retry: cancelled between two tries", "[upstream]") {
  Bench bench;
  bench.params.backoff_base = std::chrono::hours(1);
  bench.params.backoff_limit = std::chrono::hours(1);
  bench.params.total_timeout = std::chrono::hours(100);
  const std::string name = bench.origin.add_blob("app", "content");
  Reply failing;
  failing.status = 500;
  bench.origin.script(Bench::blob(name), failing);
  runtime::TaskGroup group("one");
  auto running = bench.loops.start_in(group, download(bench.registry(), repository("app"), digest(name), 0, 100));
  REQUIRE(bench.origin.wait_until([&](const auto& seen) { return seen.count(Bench::blob(name)) == 1; }));
  group.cancel();
  CHECK(group.wait_for(std::chrono::seconds(20)));
  CHECK(bench.origin.count(Bench::blob(name)) == 1);
}

}  // namespace
}  // namespace sluice::upstream

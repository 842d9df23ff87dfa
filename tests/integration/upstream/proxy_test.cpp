// On the way out: proxies, certificates of ours, addresses that race.
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.hpp"

#include <atomic>
#include <thread>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>

#include "http/connect_race.hpp"
#include "support/test_ca.hpp"

namespace sluice::upstream {
namespace {

using namespace std::chrono_literals;
namespace asio = boost::asio;
using tcp = asio::ip::tcp;

// A forward proxy for CONNECT with blocking sockets, a thread for each connection. Every name leads to 127.0.0.1.
class TunnelProxy {
 public:
  explicit TunnelProxy(std::string refusal = {}) : refusal_(std::move(refusal)) {
    thread_ = std::thread([this] { accept_all(); });
  }
  ~TunnelProxy() {
    stopping_ = true;
    boost::system::error_code ignored;
    tcp::socket poke(context_);
    poke.connect(acceptor_.local_endpoint(), ignored);
    thread_.join();
    {
      const std::scoped_lock lock(mutex_);
      for (const auto& socket : sockets_) socket->shutdown(tcp::socket::shutdown_both, ignored);
    }
    for (std::thread& worker : workers_) worker.join();
  }
  TunnelProxy(const TunnelProxy&) = delete;
  TunnelProxy& operator=(const TunnelProxy&) = delete;

  [[nodiscard]] std::string url(const std::string& user = {}) const {
    return "http://" + user + "127.0.0.1:" + std::to_string(acceptor_.local_endpoint().port());
  }
  [[nodiscard]] std::vector<std::string> heads() const {
    const std::scoped_lock lock(mutex_);
    return heads_;
  }

 private:
  using Socket = std::shared_ptr<tcp::socket>;

  void accept_all() {
    while (!stopping_) {
      auto socket = std::make_shared<tcp::socket>(context_);
      boost::system::error_code error;
      acceptor_.accept(*socket, error);
      if (error || stopping_) return;
      const std::scoped_lock lock(mutex_);
      sockets_.push_back(socket);
      workers_.emplace_back([this, socket] { serve(socket); });
    }
  }
  void serve(const Socket& client) {
    boost::system::error_code error;
    std::string head;
    const std::size_t n = asio::read_until(*client, asio::dynamic_buffer(head), "\r\n\r\n", error);
    if (error) return;
    head.resize(n);
    {
      const std::scoped_lock lock(mutex_);
      heads_.push_back(head);
    }
    if (!refusal_.empty()) {
      asio::write(*client, asio::buffer(refusal_), error);
      client->shutdown(tcp::socket::shutdown_both, error);
      return;
    }
    const std::string target = head.substr(8, head.find(' ', 8) - 8);
    const auto port = static_cast<std::uint16_t>(std::stoul(target.substr(target.rfind(':') + 1)));
    auto server = std::make_shared<tcp::socket>(context_);
    server->connect({asio::ip::address_v4::loopback(), port}, error);
    if (error) return;
    {
      const std::scoped_lock lock(mutex_);
      sockets_.push_back(server);
    }
    asio::write(*client, asio::buffer(std::string("HTTP/1.1 200 Connection established\r\n\r\n")), error);
    std::thread back([&] { pump(server, client); });
    pump(client, server);
    back.join();
  }
  static void pump(const Socket& from, const Socket& to) {
    std::vector<char> buffer(64 << 10);
    boost::system::error_code error;
    while (!error) {
      const std::size_t n = from->read_some(asio::buffer(buffer), error);
      if (!error) asio::write(*to, asio::buffer(buffer, n), error);
    }
    to->shutdown(tcp::socket::shutdown_both, error);
  }

  const std::string refusal_;
  asio::io_context context_;
  tcp::acceptor acceptor_{context_, tcp::endpoint(asio::ip::address_v4::loopback(), 0)};
  std::atomic<bool> stopping_{false};
  std::thread thread_;
  mutable std::mutex mutex_;
  std::vector<Socket> sockets_;
  std::vector<std::thread> workers_;
  std::vector<std::string> heads_;
};

std::shared_ptr<const http::ProxyRules> all_by(const std::string& url) {
  http::ProxyRules::Params params;
  params.https = params.http = *http::ProxyServer::parse(url);
  params.loopback_directly = false;
  return std::make_shared<http::ProxyRules>(std::move(params));
}

ScriptedOrigin::Params secure(const test::TestCa& ca, const std::vector<std::string>& names) {
  ScriptedOrigin::Params params;
  params.tls = ca.server_context(names);
  return params;
}

}  // namespace

TEST_CASE("Proxy: https through a tunnel, to a name that only the proxy knows", "[upstream]") {
  const test::TestCa ca;
  Bench bench(1, secure(ca, {"DNS:registry.invalid"}));
  const TunnelProxy proxy;
  bench.params.ca_file = ca.certificate_file();
  bench.params.base = *http::Url::parse("https://registry.invalid:" + std::to_string(bench.origin.port()));
  bench.params.proxies = all_by(proxy.url("alice:wonderland@"));
  const std::string content = content_of(1 << 20);
  const std::string name = bench.origin.add_blob("app", content);
  CHECK(bench.get(name).bytes == content);
  CHECK(bench.stat(name));
  const auto heads = proxy.heads();
  REQUIRE(heads.size() == 1);
  CHECK(heads[0].starts_with("CONNECT registry.invalid:" + std::to_string(bench.origin.port()) + " HTTP/1.1\r\n"));
  CHECK(heads[0].find("\r\nProxy-Authorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n") != std::string::npos);
  for (const Request& request : bench.origin.requests()) {
    CHECK(request.field("Proxy-Authorization").empty());
    CHECK(request.target.front() == '/');
  }
}

TEST_CASE("Proxy: plain http in absolute form", "[upstream]") {
  Bench bench;  // the origin is the proxy
  bench.params.proxies = all_by("http://alice:wonderland@" + bench.origin.authority());
  bench.params.base = *http::Url::parse("http://registry.invalid/");
  const std::string name = ScriptedOrigin::digest_of("content");
  bench.origin.respond("http://registry.invalid" + Bench::blob(name), [](const Request&) {
    Reply reply;
    reply.body = "content";
    return reply;
  });
  CHECK(bench.get(name).bytes == "content");
  const auto requests = bench.origin.requests();
  REQUIRE(requests.size() == 1);
  CHECK(requests[0].field("Host") == "registry.invalid");
  CHECK(requests[0].field("Proxy-Authorization") == "Basic YWxpY2U6d29uZGVybGFuZA==");

  Reply refused;
  refused.status = 407;
  bench.origin.script("http://registry.invalid" + Bench::blob(name), refused);
  const Download got = bench.get(name);
  REQUIRE(got.opening);
  CHECK(got.opening->code == Errc::upstream_protocol);
  CHECK(got.opening->message.find("the proxy 127.0.0.1") != std::string::npos);
  CHECK(got.opening->message.find("wonderland") == std::string::npos);
}

TEST_CASE("Proxy: one that refuses says why, and is not asked for nothing", "[upstream]") {
  const test::TestCa ca;
  Bench bench(1, secure(ca, {"IP:127.0.0.1"}));
  bench.params.ca_file = ca.certificate_file();
  bench.params.retries = 2;
  const auto ask = [&](const std::string& refusal) {
    const TunnelProxy proxy(refusal);
    bench.params.proxies = all_by(proxy.url("alice:wonderland@"));
    HttpRegistry registry(bench.params, bench.client, bench.clock, bench.metrics);
    const Download got =
        bench.loops.run(download(registry, repository("app"), digest(ScriptedOrigin::digest_of("x")), 0, 100));
    REQUIRE(got.opening);
    CHECK(got.opening->message.find("wonderland") == std::string::npos);
    CHECK(got.opening->message.find("YWxp") == std::string::npos);
    return std::pair(got.opening->code, proxy.heads().size());
  };
  CHECK(ask("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") ==
        std::pair(Errc::upstream_protocol, std::size_t{1}));
  CHECK(ask("HTTP/1.1 403 Forbidden\r\n\r\n<html>") == std::pair(Errc::upstream_protocol, std::size_t{1}));
  CHECK(ask("HTTP/1.1 502 Bad Gateway\r\n\r\n") == std::pair(Errc::upstream_unreachable, std::size_t{3}));
  CHECK(ask("SSH-2.0-OpenSSH_9.2\r\n\r\n").first == Errc::upstream_protocol);
  CHECK(ask("HTTP/1.1 200 OK\r\n\r\nand more").first == Errc::upstream_protocol);
  CHECK(bench.origin.requests().empty());
}

TEST_CASE("Proxy: it leads to no address of a network inside that a server names", "[upstream]") {
  Bench bench;  // the origin is the proxy too
  bench.params.retries = 0;
  bench.params.proxies = all_by("http://" + bench.origin.authority());
  bench.params.base = *http::Url::parse("http://registry.invalid/");
  const std::string name = ScriptedOrigin::digest_of("content");
  for (const char* place :
       {"http://169.254.169.254/latest", "http://0xa9fea9fe/", "http://2852039166/", "http://169.254.43518/",
        "http://[fe80::1]/", "http://1684301000/", "http://[fd00:ec2::254]/", "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1:1/", "http://localhost/", "http://10.0.0.1/", "http://0x0a000001/",
        "http://[64:ff9b::a00:1]/"}) {
    INFO(place);
    Reply reply;
    reply.status = 307;
    reply.fields = {{"Location", place}};
    bench.origin.script("http://registry.invalid" + Bench::blob(name), reply);
    const std::size_t before = bench.origin.requests().size();
    const Download got = bench.get(name);
    REQUIRE(got.opening);
    CHECK(got.opening->code == Errc::upstream_failed);
    CHECK(bench.origin.requests().size() == before + 1);
  }
}

TEST_CASE("Connect: an address that swallows packets costs a moment", "[upstream]") {
  test::LoopRunner loops;
  // A listener that accepts nobody and whose backlog is full leaves connections hanging.
  asio::io_context context;
  tcp::acceptor full(context);
  full.open(tcp::v4());
  full.bind({asio::ip::address_v4::loopback(), 0});
  full.listen(0);
  std::vector<tcp::socket> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.emplace_back(context);
    tcp::socket& filler = fillers.back();
    filler.open(tcp::v4());
    filler.non_blocking(true);
    const tcp::endpoint to = full.local_endpoint();
    // Asio's own would wait for the end of it.
    static_cast<void>(::connect(filler.native_handle(), to.data(), static_cast<socklen_t>(to.size())));
  }
  tcp::acceptor good(context, tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  const auto race = [&](http::TcpEndpoints endpoints) {
    return loops.run([](http::TcpEndpoints to) -> Task<std::pair<boost::system::error_code, std::uint16_t>> {
      http::RaceOutcome outcome =
          co_await http::race_to_connect(std::move(to), std::chrono::steady_clock::now() + 20s, 5ms);
      boost::system::error_code ignored;
      co_return std::pair(outcome.error,
                          outcome.socket.is_open() ? outcome.socket.remote_endpoint(ignored).port() : std::uint16_t{0});
    }(std::move(endpoints)));
  };
  const auto won = race({full.local_endpoint(), good.local_endpoint()});
  CHECK_FALSE(won.first);
  CHECK(won.second == good.local_endpoint().port());

  // One that refuses does not even cost that, and the last error is told.
  const tcp::endpoint nobody(asio::ip::address_v4::loopback(), 1);
  CHECK(race({nobody, good.local_endpoint()}).second == good.local_endpoint().port());
  CHECK(race({nobody, nobody}).first == asio::error::connection_refused);

  const auto late = loops.run([](http::TcpEndpoints to) -> Task<bool> {
    const http::RaceOutcome outcome =
        co_await http::race_to_connect(std::move(to), std::chrono::steady_clock::now() + 20ms, 5ms);
    co_return outcome.timed_out;
  }({full.local_endpoint()}));
  CHECK(late);
}

}  // namespace sluice::upstream

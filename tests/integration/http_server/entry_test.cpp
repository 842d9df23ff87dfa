// Who may come in: address lists, limits for each client, trusted proxies, TLS.
#include <csignal>
#include <fstream>
#include <memory>

#include <openssl/ssl.h>
#include <catch2/catch.hpp>

#include "http/tls_server.hpp"
#include "support/test_ca.hpp"
#include "test_handler.hpp"

using namespace sluice;
using namespace sluice::http;
using namespace sluice::test;
using namespace std::chrono_literals;

namespace {

using List = std::vector<std::string>;

std::shared_ptr<const Entry> entry_of(Entry entry) { return std::make_shared<const Entry>(std::move(entry)); }

// Waits until the loops have it: a connection that is made after this meets it.
void enter_into_force(TestServer& test, Entry entry) {
  test.server.set_entry(entry_of(std::move(entry)));
  for (std::size_t i = 0; i < test.loops.size(); ++i) {
    std::atomic<bool> passed{false};
    runtime::asio::post(test.loops.at(i).get_executor(), [&passed] { passed = true; });
    if (!eventually([&] { return passed.load(); })) throw std::runtime_error("a loop hangs");
  }
}

constexpr const char* kProxied = "PROXY TCP4 192.0.2.1 127.0.0.1 5555 80\r\n";

// A blocking client of TLS, on a socket of its own.
class TlsClient {
 public:
  TlsClient(std::uint16_t port, const TestCa& ca, const TestCa::Issued* own = nullptr)
      : context_(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free), raw_(port), ssl_(nullptr, &SSL_free) {
    SSL_CTX_load_verify_file(context_.get(), ca.certificate_file().c_str());
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
    if (own != nullptr) use(*own);
    static constexpr unsigned char kProtocols[] = "\x02h2\x08http/1.1";
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_alpn_protos(ssl_.get(), kProtocols, sizeof kProtocols - 1);
    SSL_set_fd(ssl_.get(), raw_.fd());
  }

  bool preface(std::string_view bytes) { return raw_.send(bytes); }
  bool connect() { return SSL_connect(ssl_.get()) == 1; }
  std::string protocol() const {
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    return {reinterpret_cast<const char*>(name), size};
  }
  // One after the other, until the server has had enough. Returns how many.
  int update_keys(int most) {
    int sent = 0;
    while (sent < most && SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED) == 1 &&
           SSL_do_handshake(ssl_.get()) == 1) {
      ++sent;
    }
    return sent;
  }
  bool send(std::string_view text) { return SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) > 0; }
  // Until the end; whether it was said to be the end.
  bool read_all(std::string& into) {
    char buffer[16384];
    int n = 0;
    while ((n = SSL_read(ssl_.get(), buffer, sizeof buffer)) > 0) into.append(buffer, static_cast<std::size_t>(n));
    return SSL_get_error(ssl_.get(), n) == SSL_ERROR_ZERO_RETURN;
  }
  std::string get(std::string_view path) {
    send("GET " + std::string(path) + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    std::string out;
    ended_well = read_all(out);
    return out;
  }
  std::string subject() const {
    std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get1_peer_certificate(ssl_.get()), &X509_free);
    const ASN1_INTEGER* const serial = certificate ? X509_get0_serialNumber(certificate.get()) : nullptr;
    return serial == nullptr ? "" : std::to_string(ASN1_INTEGER_get(serial));
  }

  bool ended_well = false;

 private:
  void use(const TestCa::Issued& own) {
    const auto memory = [](const std::string& text) {
      return std::unique_ptr<BIO, decltype(&BIO_free)>(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())),
                                                       &BIO_free);
    };
    X509* const certificate = PEM_read_bio_X509(memory(own.certificate).get(), nullptr, nullptr, nullptr);
    EVP_PKEY* const key = PEM_read_bio_PrivateKey(memory(own.key).get(), nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context_.get(), certificate);
    SSL_CTX_use_PrivateKey(context_.get(), key);
    X509_free(certificate);
    EVP_PKEY_free(key);
  }

  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  RawClient raw_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
};

// A server that speaks TLS with a certificate of `ca`.
struct TlsSetup {
  explicit TlsSetup(http::Server::Params params = {}) : test(std::move(params)) { use(ca.issue({"IP:127.0.0.1"}), ""); }

  std::string write(const std::string& name, const std::string& text) const {
    const std::string path = (test.directory / name).string();
    std::ofstream(path) << text;
    return path;
  }
  void use(const TestCa::Issued& issued, const std::string& client_ca, bool required = true) {
    const auto context = TlsServerContext::load(
        {write("cert.pem", issued.certificate), write("key.pem", issued.key), client_ca, required});
    if (!context) throw std::runtime_error(context.error().message);
    Entry entry;
    entry.tls = *context;
    enter_into_force(test, entry);
  }

  TestCa ca;
  TestServer test;
};

}  // namespace

TEST_CASE("Entry: who is on no list of those who may is closed before anything is read", "[http]") {
  TestServer test;
  RawClient before = test.connect();
  before.get("/hello");
  CHECK(before.answer().status == 200);
  Entry entry;
  entry.allow = NetworkList(List{"10.0.0.0/8"});
  enter_into_force(test, entry);
  CHECK(test.connect().read_all().empty());
  // What is open hears of it with its next request.
  before.get("/hello");
  CHECK(before.answer().status == 403);
  CHECK(before.end() == RawClient::End::fin);
  entry.allow = NetworkList(List{"127.0.0.0/8"});
  entry.deny = NetworkList(List{"127.0.0.1"});
  enter_into_force(test, entry);
  CHECK(test.connect().read_all().empty());
  CHECK(test.metric("sluice_http_denied_total", "address") == 3);
  enter_into_force(test, {});
  RawClient after = test.connect();
  after.get("/hello");
  CHECK(after.answer().status == 200);
}

TEST_CASE("Entry: one client has no more connections than its limit", "[http]") {
  TestServer test;
  Entry entry;
  entry.client_max_connections = 2;
  enter_into_force(test, entry);
  RawClient one = test.connect();
  one.get("/hello");
  CHECK(one.answer().status == 200);
  {
    RawClient two = test.connect();
    two.get("/hello");
    CHECK(two.answer().status == 200);
    CHECK(test.connect().read_all().empty());
    CHECK(test.metric("sluice_http_denied_total", "connections") == 1);
  }
  CHECK(eventually([&] {
    RawClient again = test.connect();
    again.get("/hello");
    return again.answer().status == 200;
  }));
  one.get("/hello");
  CHECK(one.answer().status == 200);
}

TEST_CASE("Entry: requests far above the rate are told to come back", "[http]") {
  http::Server::Params params;
  params.rate_patience = 0ms;
  TestServer test(params);
  Entry entry;
  entry.client_requests_per_second = 1;
  enter_into_force(test, entry);
  RawClient one = test.connect();
  // In one piece, so that no time passes between them.
  one.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /hello HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(one.answer().status == 200);
  const Answer refused = one.answer();
  CHECK(refused.status == 503);
  CHECK(refused.body.find("TOOMANYREQUESTS") != std::string::npos);
  CHECK(one.end() == RawClient::End::fin);
  CHECK(test.metric("sluice_http_denied_total", "rate") == 1);
}

TEST_CASE("Entry: requests a little above the rate are answered later", "[http]") {
  TestServer test;
  Entry entry;
  entry.client_requests_per_second = 5;
  enter_into_force(test, entry);
  RawClient one = test.connect();
  std::string requests;
  for (int i = 0; i < 6; ++i) requests += "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
  one.send(requests);
  for (int i = 0; i < 6; ++i) REQUIRE(one.answer().status == 200);
  CHECK(test.metric("sluice_http_delayed_requests_total") >= 1);
  CHECK(test.metric("sluice_http_denied_total", "rate") == 0);
}

TEST_CASE("Entry: a PROXY header counts from trusted proxies, and is required of them", "[http]") {
  TestServer test;
  Entry entry;
  entry.trusted_proxies = NetworkList(List{"127.0.0.1"});
  entry.proxy_protocol = true;
  entry.deny = NetworkList(List{"192.0.2.9"});
  enter_into_force(test, entry);
  RawClient good = test.connect();
  good.send(std::string(kProxied) + "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(good.answer().body == "192.0.2.1:5555");
  good.get("/peer");
  CHECK(good.answer().body == "192.0.2.1:5555");
  // Its client is no proxy.
  good.get("/peer", "X-Forwarded-For: 1.1.1.1\r\n");
  CHECK(good.answer().body == "192.0.2.1:5555");

  RawClient slowly = test.connect();
  for (const char c : std::string(kProxied)) slowly.send({&c, 1});
  slowly.get("/peer");
  CHECK(slowly.answer().body == "192.0.2.1:5555");

  RawClient denied = test.connect();
  denied.send("PROXY TCP4 192.0.2.9 127.0.0.1 5555 80\r\nGET /peer HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(denied.read_all().empty());
  RawClient without = test.connect();
  without.get("/peer");
  CHECK(without.read_all().empty());
  CHECK(test.metric("sluice_http_denied_total", "proxy_header") == 1);

  entry.trusted_proxies = NetworkList(List{"10.0.0.0/8"});
  enter_into_force(test, entry);
  RawClient stranger = test.connect();
  stranger.send(std::string(kProxied) + "GET /peer HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(stranger.answer().status == 400);
}

TEST_CASE("Entry: X-Forwarded-For counts from trusted proxies only", "[http]") {
  TestServer test;
  Entry entry;
  entry.trusted_proxies = NetworkList(List{"127.0.0.1", "10.0.0.0/8"});
  entry.deny = NetworkList(List{"192.0.2.9"});
  entry.client_max_connections = 1;
  enter_into_force(test, entry);
  RawClient proxy = test.connect();
  RawClient other = test.connect();  // a proxy is not counted
  proxy.get("/peer", "X-Forwarded-For: 8.8.8.8, 192.0.2.7\r\nX-Forwarded-For: 10.0.0.1\r\n");
  CHECK(proxy.answer().body == "192.0.2.7");
  proxy.get("/peer");
  CHECK(proxy.answer().body.starts_with("127.0.0.1:"));
  other.get("/peer", "X-Forwarded-For: 192.0.2.9\r\n");
  CHECK(other.answer().status == 403);
  entry.trusted_proxies = {};
  enter_into_force(test, entry);
  proxy.get("/peer", "X-Forwarded-For: 192.0.2.7\r\n");
  CHECK(proxy.answer().body.starts_with("127.0.0.1:"));
}

TEST_CASE("TLS: answers, files and the end of a connection", "[http]") {
  TlsSetup at;
  at.test.make_file(3'000'000);
  TlsClient client(at.test.server.port(), at.ca);
  REQUIRE(client.connect());
  CHECK(client.protocol() == "http/1.1");
  client.send("GET /hello HTTP/1.1\r\nHost: x\r\n\r\nGET /chunks HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string all = client.get("/file");
  CHECK(client.ended_well);
  CHECK(all.find("\r\n\r\nhello") != std::string::npos);
  CHECK(all.find("one,") != std::string::npos);
  CHECK(all.ends_with(TestServer::content(3'000'000)));
  CHECK(at.test.metric("sluice_http_tls_handshakes_total", "accepted") == 1);
}

TEST_CASE("TLS: key updates without end are none of a loop's business", "[http]") {
  std::signal(SIGPIPE, SIG_IGN);
  TlsSetup at;
  TlsClient client(at.test.server.port(), at.ca);
  REQUIRE(client.connect());
  constexpr int kMany = 100'000;
  CHECK(client.update_keys(kMany) < kMany);
  CHECK(eventually([&] { return at.test.server.connections() == 0; }));
  // A few are as the protocol has it.
  TlsClient modest(at.test.server.port(), at.ca);
  REQUIRE(modest.connect());
  CHECK(modest.update_keys(10) == 10);
  CHECK(modest.get("/hello").ends_with("hello"));
}

TEST_CASE("TLS: a stalled client is given up, and one that breaks off holds nothing", "[http]") {
  http::Server::Params params;
  params.send_timeout = 100ms;
  params.header_timeout = 100ms;
  TlsSetup at(params);
  {
    TlsClient stalled(at.test.server.port(), at.ca);
    REQUIRE(stalled.connect());
    stalled.send("GET /flood HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(eventually([&] { return at.test.handler.last_error.load() == static_cast<int>(Errc::timeout); }));
    std::string rest;
    CHECK_FALSE(stalled.read_all(rest));  // an answer that is cut short does not end as if it were whole
  }
  RawClient silent = at.test.connect();
  silent.send("\x16\x03\x01");
  CHECK(silent.end() == RawClient::End::fin);
  CHECK(at.test.metric("sluice_http_tls_handshakes_total", "failed") == 1);
  CHECK(eventually([&] { return at.test.server.connections() == 0; }));
}

TEST_CASE("TLS: who does not begin does not hold up the end", "[http]") {
  http::Server::Params params;
  params.header_timeout = 10min;
  TlsSetup at(params);
  RawClient silent = at.test.connect();
  RawClient half = at.test.connect();
  half.send("\x16\x03\x01");
  CHECK(eventually([&] { return at.test.server.connections() == 2; }));
  at.test.server.stop_accepting();
  CHECK(at.test.server.drain(30s));
}

TEST_CASE("TLS: plain HTTP on its port is told so", "[http]") {
  TlsSetup at;
  RawClient plain = at.test.connect();
  plain.get("/hello");
  const Answer answer = plain.answer();
  CHECK(answer.status == 400);
  CHECK(answer.body.find("https") != std::string::npos);
  CHECK(plain.end() == RawClient::End::fin);
  RawClient garbage = at.test.connect();
  garbage.send("\x01\x02\x03");
  CHECK(garbage.read_all().empty());
}

TEST_CASE("TLS: behind the PROXY protocol", "[http]") {
  TlsSetup at;
  const auto context = TlsServerContext::load({at.write("c", at.ca.issue({"IP:127.0.0.1"}).certificate), "", "", true});
  CHECK_FALSE(context.has_value());
  const TestCa::Issued issued = at.ca.issue({"IP:127.0.0.1"});
  Entry entry;
  entry.tls = *TlsServerContext::load({at.write("c", issued.certificate), at.write("k", issued.key), "", true});
  entry.trusted_proxies = NetworkList(List{"127.0.0.1"});
  entry.proxy_protocol = true;
  enter_into_force(at.test, entry);
  TlsClient client(at.test.server.port(), at.ca);
  client.preface(kProxied);
  REQUIRE(client.connect());
  CHECK(client.get("/peer").ends_with("192.0.2.1:5555"));
}

TEST_CASE("TLS: clients show a certificate where they have to", "[http]") {
  TlsSetup at;
  const TestCa others;
  at.use(at.ca.issue({"IP:127.0.0.1"}), at.ca.certificate_file());
  const TestCa::Issued known = at.ca.issue({"DNS:client"});
  const TestCa::Issued unknown = others.issue({"DNS:client"});
  const auto status = [&](const TestCa::Issued* own) {
    TlsClient client(at.test.server.port(), at.ca, own);
    if (!client.connect()) return std::string("none");
    return client.get("/hello").substr(0, 12);
  };
  CHECK(status(&known) == "HTTP/1.1 200");
  // With TLS 1.3 the client learns it with its first read.
  CHECK(status(nullptr).find("200") == std::string::npos);
  CHECK(status(&unknown).find("200") == std::string::npos);
  at.use(at.ca.issue({"IP:127.0.0.1"}), at.ca.certificate_file(), false);
  CHECK(status(nullptr) == "HTTP/1.1 200");
  CHECK(status(&unknown).find("200") == std::string::npos);
}

TEST_CASE("TLS: another certificate is for new connections, and the old ones go on", "[http]") {
  TlsSetup at;
  TlsClient before(at.test.server.port(), at.ca);
  REQUIRE(before.connect());
  at.use(at.ca.issue({"IP:127.0.0.1"}), "");
  TlsClient after(at.test.server.port(), at.ca);
  REQUIRE(after.connect());
  CHECK(before.subject() != after.subject());
  CHECK(before.get("/hello").ends_with("hello"));
  CHECK(after.get("/hello").ends_with("hello"));
}

TEST_CASE("TLS: files that are of no use are named", "[http]") {
  TlsSetup at;
  const TestCa::Issued one = at.ca.issue({"IP:127.0.0.1"});
  const TestCa::Issued two = at.ca.issue({"IP:127.0.0.1"});
  const std::string cert = at.write("one.pem", one.certificate);
  const std::string key = at.write("two.key", two.key);
  const auto message = [](const TlsServerContext::Params& params) {
    const auto context = TlsServerContext::load(params);
    return context ? std::string() : context.error().message;
  };
  CHECK(message({cert, key, "", true}).find("two.key") != std::string::npos);
  CHECK(message({"/nowhere/c.pem", key, "", true}).find("/nowhere/c.pem: No such file") != std::string::npos);
  CHECK(message({at.write("bad.pem", "no PEM"), key, "", true}).find("bad.pem") != std::string::npos);
  const std::string own_key = at.write("one.key", one.key);
  CHECK(message({cert, own_key, "/nowhere/ca.pem", true}).find("/nowhere/ca.pem") != std::string::npos);
  CHECK(message({cert, own_key, at.ca.certificate_file(), true}).empty());
}

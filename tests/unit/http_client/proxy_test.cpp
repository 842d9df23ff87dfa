#include "http/proxy.hpp"

#include <tuple>
#include <vector>

#include <catch2/catch.hpp>

#include "http/connect_race.hpp"

namespace sluice::http {

TEST_CASE("Proxy: its URL", "[http]") {
  const auto plain = ProxyServer::parse("http://proxy.example.com:3128/");
  REQUIRE(plain.has_value());
  CHECK(plain->authority() == "proxy.example.com:3128");
  CHECK(plain->authorization.empty());
  CHECK(ProxyServer::parse("proxy:8080")->authority() == "proxy:8080");
  CHECK(ProxyServer::parse("http://proxy")->port == 80);
  CHECK(ProxyServer::parse("http://[::1]:3128")->authority() == "[::1]:3128");
  // alice:p@ss:word
  CHECK(ProxyServer::parse("http://alice:p%40ss:word@proxy:1")->authorization == "Basic YWxpY2U6cEBzczp3b3Jk");
  for (const char* url : {"socks5://secret@proxy", "https://secret@proxy", "http://secret@", "", "http://secret@a b",
                          "http://secret@proxy/path"}) {
    const auto bad = ProxyServer::parse(url);
    REQUIRE(bad.has_error());
    CHECK(bad.error().message.find("secret") == std::string::npos);
  }
}

TEST_CASE("Proxy: exceptions, as Go has them", "[http]") {
  const std::vector<std::tuple<const char*, const char*, std::uint16_t, bool>> cases = {
      {"*", "registry.example.com", 443, true},
      {"example.com", "example.com", 443, true},
      {"example.com", "registry.example.com", 443, true},
      {"example.com", "notexample.com", 443, false},
      {"EXAMPLE.com", "registry.example.com", 443, true},
      {".example.com", "example.com", 443, false},
      {".example.com", "registry.example.com", 443, true},
      {"*.example.com", "a.b.example.com", 443, true},
      {"*.example.com", "example.com", 443, false},
      {"example.com:5000", "registry.example.com", 5000, true},
      {"example.com:5000", "registry.example.com", 443, false},
      {" example.com ", "example.com", 443, true},
      {"example.com", "example.com.", 443, true},
      {"10.0.0.1", "10.0.0.1", 80, true},
      {"10.0.0.1:80", "10.0.0.1", 80, true},
      {"10.0.0.1:80", "10.0.0.1", 81, false},
      {"10.0.0.0/8", "10.255.0.1", 80, true},
      {"10.1.2.3/8", "10.255.0.1", 80, true},
      {"10.0.0.0/8", "11.0.0.1", 80, false},
      {"10.0.0.0/8", "ten.example.com", 80, false},
      {"10.0.0.0/8", "::ffff:10.1.1.1", 80, true},
      {"fd00::/8", "fd12::1", 443, true},
      {"fd00::/8", "fe80::1", 443, false},
      {"::1", "::1", 443, true},
      {"[::1]:5000", "::1", 5000, true},
      {"[::1]:5000", "::1", 443, false},
      {"0.0.1", "10.0.0.1", 80, false},
      {"", "example.com", 443, false},
      {"10.0.0.0/nonsense", "10.0.0.1", 80, false}};
  for (const auto& [entry, host, port, exempt] : cases) {
    INFO(entry << " and " << host << ":" << port);
    CHECK(matches_no_proxy(entry, host, port) == exempt);
  }
}

TEST_CASE("Proxy: by scheme, and not to this machine", "[http]") {
  ProxyRules::Params params;
  params.https = *ProxyServer::parse("http://secure:1");
  params.no_proxy = {"internal.example.com"};
  const auto server = [&](const char* url) {
    const ProxyRules rules(params);
    const ProxyServer* found = rules.find(*Url::parse(url));
    return found == nullptr ? std::string() : found->host;
  };
  CHECK(server("https://registry.example.com/") == "secure");
  CHECK(server("http://registry.example.com/").empty());
  CHECK(server("https://internal.example.com/").empty());
  CHECK(server("https://localhost/").empty());
  CHECK(server("https://127.1.2.3/").empty());
  CHECK(server("https://[::1]/").empty());
  params.http = *ProxyServer::parse("http://plain:1");
  params.loopback_directly = false;
  CHECK(server("http://127.0.0.1:5000/") == "plain");
  CHECK(host_and_port(*Url::parse("https://registry.example.com/")) == "registry.example.com:443");
  CHECK(host_and_port(*Url::parse("https://[fd00::1]:5000/")) == "[fd00::1]:5000");
}

TEST_CASE("Connect: the families take turns", "[http]") {
  const auto at = [](const char* text) {
    return boost::asio::ip::tcp::endpoint(boost::asio::ip::make_address(text), 443);
  };
  const TcpEndpoints mixed = {at("fd00::1"), at("fd00::2"), at("fd00::3"), at("10.0.0.1"), at("10.0.0.2")};
  CHECK(alternate_families(mixed) ==
        TcpEndpoints{at("fd00::1"), at("10.0.0.1"), at("fd00::2"), at("10.0.0.2"), at("fd00::3")});
  CHECK(alternate_families({at("10.0.0.1")}) == TcpEndpoints{at("10.0.0.1")});
}

}  // namespace sluice::http

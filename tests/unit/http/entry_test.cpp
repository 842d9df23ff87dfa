// Who may come in: addresses and networks, what a proxy says of its client, and what one client may have.
#include <chrono>

#include <catch2/catch.hpp>

#include "base/network.hpp"
#include "http/entry.hpp"
#include "http/proxy_protocol.hpp"

using namespace sluice;
using namespace sluice::http;
using namespace std::chrono_literals;
using State = ProxyHeader::State;

namespace {

IpAddress address(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  if (!parsed) throw std::runtime_error("not an address");
  return *parsed;
}

bool holds(std::string_view network, std::string_view member) {
  const auto parsed = Network::parse(network);
  return parsed && parsed->contains(address(member));
}

std::string forwarded(std::string_view value) {
  const NetworkList trusted(std::vector<std::string>{"10.0.0.0/8", "fd00::/8"});
  const auto client = forwarded_client(value, trusted);
  return client ? client->to_string() : "none";
}

std::string v2(std::string_view head, std::string_view rest) {
  std::string out("\r\n\r\n\0\r\nQUIT\n", 12);
  out.append(head);
  out += static_cast<char>(rest.size() >> 8U);
  out += static_cast<char>(rest.size() & 0xffU);
  return out.append(rest);
}

}  // namespace

TEST_CASE("IpAddress: IPv4 is the same address in both notations", "[base]") {
  CHECK(address("10.0.0.1") == address("::ffff:10.0.0.1"));
  CHECK(address("10.0.0.1").to_string() == "10.0.0.1");
  CHECK(address("2001:DB8::1").to_string() == "2001:db8::1");
  CHECK(address("2001:db8::1").with_port(80) == "[2001:db8::1]:80");
  for (const char* wrong : {"", "10.0.0", "10.0.0.256", "010.0.0.1x", "[::1]", "::1%eth0", "10.0.0.1:80", "a"}) {
    CHECK_FALSE(IpAddress::parse(wrong));
  }
  CHECK(address("2001:db8:0:1:2::3").client_key() == address("2001:db8:0:1::"));
  CHECK(address("10.0.0.1").client_key() == address("10.0.0.1"));
}

TEST_CASE("Network: contains what has its prefix", "[base]") {
  CHECK(holds("10.0.0.0/8", "10.255.0.1"));
  CHECK_FALSE(holds("10.0.0.0/8", "11.0.0.0"));
  CHECK(holds("10.1.2.128/25", "10.1.2.200"));
  CHECK_FALSE(holds("10.1.2.128/25", "10.1.2.127"));
  CHECK(holds("10.1.2.3", "10.1.2.3"));
  CHECK(holds("0.0.0.0/0", "1.2.3.4"));
  CHECK_FALSE(holds("0.0.0.0/0", "::1"));
  CHECK(holds("::/0", "::1"));
  CHECK(holds("2001:db8::/33", "2001:db8:7fff::"));
  CHECK_FALSE(holds("2001:db8::/33", "2001:db8:8000::"));
  for (const char* wrong : {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "/8", "::1/64", "::/129", "10.0.0.0/8/8", "x"}) {
    CHECK_FALSE(Network::parse(wrong));
  }
}

TEST_CASE("PROXY protocol: version 1", "[http]") {
  const ProxyHeader v4 = parse_proxy_header("PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\nGET /");
  REQUIRE(v4.state == State::complete);
  CHECK(v4.bytes == 42);
  REQUIRE(v4.source);
  CHECK(v4.source->address.with_port(v4.source->port) == "192.0.2.1:56324");
  const ProxyHeader v6 = parse_proxy_header("PROXY TCP6 2001:db8::1 ::1 1 443\r\n");
  REQUIRE(v6.source);
  CHECK(v6.source->address == address("2001:db8::1"));
  for (const char* unknown : {"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ff:: 1 garbage\r\n"}) {
    CHECK(parse_proxy_header(unknown).state == State::complete);
    CHECK_FALSE(parse_proxy_header(unknown).source);
  }
  const std::string whole = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n";
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CHECK(parse_proxy_header(whole.substr(0, n)).state == State::need_more);
  }
  for (const char* wrong :
       {"GET / HTTP/1.1\r\n", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY\r\n", "PROXYTCP4", "\x16\x03\x01"}) {
    CHECK(parse_proxy_header(wrong).state == State::garbage);
  }
  CHECK(parse_proxy_header("PROXY " + std::string(200, 'x')).state == State::garbage);
}

TEST_CASE("PROXY protocol: version 2", "[http]") {
  const std::string addresses("\xc0\x00\x02\x01\xc0\x00\x02\x02\xdc\x04\x01\xbb", 12);
  const std::string whole = v2("\x21\x11", addresses + std::string("\x04\x00\x01x", 4));
  const ProxyHeader v4 = parse_proxy_header(whole + "rest");
  REQUIRE(v4.state == State::complete);
  CHECK(v4.bytes == whole.size());
  REQUIRE(v4.source);
  CHECK(v4.source->address.with_port(v4.source->port) == "192.0.2.1:56324");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    CHECK(parse_proxy_header(whole.substr(0, n)).state == State::need_more);
  }
  std::string six(36, '\0');
  six[15] = 1;
  six[33] = 80;
  const ProxyHeader v6 = parse_proxy_header(v2("\x21\x21", six));
  REQUIRE(v6.source);
  CHECK(v6.source->address.with_port(v6.source->port) == "[::1]:80");
  const ProxyHeader local = parse_proxy_header(v2(std::string("\x20\x00", 2), ""));
  CHECK(local.state == State::complete);
  CHECK_FALSE(local.source);
  CHECK(parse_proxy_header(v2("\x11\x11", addresses)).state == State::garbage);
  CHECK(parse_proxy_header(v2("\x22\x11", addresses)).state == State::garbage);
  CHECK(parse_proxy_header(v2("\x21\x12", addresses)).state == State::garbage);
  CHECK(parse_proxy_header(v2("\x21\x11", "short")).state == State::garbage);
  CHECK(parse_proxy_header(v2("\x21\x11", std::string(5000, 'x'))).state == State::garbage);
}

TEST_CASE("X-Forwarded-For: only what trusted proxies have written counts", "[http]") {
  CHECK(forwarded("192.0.2.7") == "192.0.2.7");
  CHECK(forwarded("1.1.1.1, 192.0.2.7") == "192.0.2.7");
  CHECK(forwarded("1.1.1.1, 192.0.2.7, 10.0.0.3 , fd00::1") == "192.0.2.7");
  CHECK(forwarded("10.0.0.2, 10.0.0.3") == "10.0.0.2");
  CHECK(forwarded("evil, 10.0.0.3") == "10.0.0.3");
  CHECK(forwarded("192.0.2.7:1234") == "192.0.2.7");
  CHECK(forwarded("[2001:db8::1]:1234") == "2001:db8::1");
  CHECK(forwarded("2001:db8::1") == "2001:db8::1");
  for (const char* none : {"", "unknown", "192.0.2.7,", "_hidden", "[::1", "[::1]x", "1.2.3.4:x"}) {
    CHECK(forwarded(none) == "none");
  }
}

TEST_CASE("Client: has no more connections than its limit", "[http]") {
  ClientAccount client;
  CHECK(client.connect(2));
  CHECK(client.connect(2));
  CHECK_FALSE(client.connect(2));
  CHECK(client.connect(0));
  client.disconnect();
  client.disconnect();
  CHECK(client.connect(2));
}

TEST_CASE("Client: requests above the rate wait for their turn, and no longer than they would", "[http]") {
  ClientAccount client;
  const auto start = 1'000s;
  for (int i = 0; i < 10; ++i) CHECK(client.request(start, 10, 200ms) == 0ns);
  CHECK(client.request(start, 10, 200ms) == 100ms);
  CHECK(client.request(start, 10, 200ms) == 200ms);
  CHECK_FALSE(client.request(start, 10, 200ms));
  CHECK_FALSE(client.request(start, 10, 200ms));  // one that is refused does not count
  CHECK(client.request(start + 100ms, 10, 200ms) == 200ms);
  CHECK(client.request(start + 10s, 10, 200ms) == 0ns);
  CHECK_FALSE(client.is_idle(start + 10s));
  CHECK(client.is_idle(start + 11s));
}

TEST_CASE("ClientTable: is bounded by what is in use", "[http]") {
  ClientTable table;
  const auto now = 1'000s;
  const auto at = [](std::uint32_t n) {
    const std::uint8_t bytes[4]{10, static_cast<std::uint8_t>(n >> 16U), static_cast<std::uint8_t>(n >> 8U),
                                static_cast<std::uint8_t>(n)};
    return IpAddress::from_v4(bytes);
  };
  const std::shared_ptr<ClientAccount> kept = table.find(at(0), now);
  CHECK(kept->connect(1));
  for (std::uint32_t n = 1; n < 200'000; ++n) {
    // Behind its rate for a while, so that it is not forgotten lightly.
    (void)table.find(at(n), now)->request(now, 1, 10s);
  }
  CHECK(table.size() <= ClientTable::kMaxResting);
  CHECK(table.find(at(0), now) == kept);
  CHECK(table.find(address("2001:db8::1"), now) == table.find(address("2001:db8::2"), now));
}

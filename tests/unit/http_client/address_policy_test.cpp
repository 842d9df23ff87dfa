// Where a server may send us.
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <catch2/catch.hpp>

#include "http/address_policy.hpp"

using namespace sluice;
using namespace sluice::http;

namespace {

IpAddress ip(const char* text) {
  const std::optional<IpAddress> address = IpAddress::parse(text);
  REQUIRE(address);
  return *address;
}

bool permits(const AddressPolicy& policy, const char* to, const char* sender) {
  return policy.permits(ip(to), 443, sender == nullptr ? std::nullopt : std::optional(ip(sender)));
}

}  // namespace

TEST_CASE("AddressPolicy: globally reachable addresses, from wherever the word comes", "[http]") {
  const AddressPolicy policy({}, nullptr);
  for (const char* sender : {"9.9.9.9", "127.0.0.1", "10.0.0.1", static_cast<const char*>(nullptr)}) {
    CHECK(permits(policy, "8.8.8.8", sender));
    CHECK(permits(policy, "2600::1", sender));
    CHECK(permits(policy, "64:ff9b::8.8.8.8", sender));
  }
  for (const char* to : {"127.0.0.1",
                         "::1",
                         "0.0.0.0",
                         "::",
                         "10.0.0.1",
                         "192.168.1.1",
                         "169.254.169.254",
                         "fe80::1",
                         "100.64.0.1",
                         "198.18.0.1",
                         "64:ff9b::a9fe:a9fe",
                         "2002:a9fe:a9fe::",
                         "64:ff9b::127.0.0.1",
                         "::ffff:127.0.0.1",
                         "fd00:ec2::23",
                         "fd20:ce::254",
                         "fd00:c1::a9fe:a9fe",
                         "192.0.0.192",
                         "168.63.129.16",
                         "100.100.100.200"}) {
    INFO(to);
    CHECK_FALSE(permits(policy, to, "9.9.9.9"));
    CHECK_FALSE(permits(policy, to, nullptr));
  }
}

TEST_CASE("AddressPolicy: the kind of network that the server itself is in", "[http]") {
  const AddressPolicy policy({}, nullptr);
  CHECK(permits(policy, "127.0.0.2", "127.0.0.1"));
  CHECK(permits(policy, "::1", "127.0.0.1"));
  CHECK(permits(policy, "192.168.5.5", "10.0.0.1"));
  CHECK(permits(policy, "fd12::1", "10.0.0.1"));
  CHECK(permits(policy, "64:ff9b::10.0.0.9", "10.0.0.1"));
  CHECK(permits(policy, "100.64.9.9", "100.127.0.1"));
  CHECK(permits(policy, "198.18.9.9", "198.19.0.1"));
  CHECK_FALSE(permits(policy, "10.0.0.1", "127.0.0.1"));
  CHECK_FALSE(permits(policy, "127.0.0.1", "10.0.0.1"));
  CHECK_FALSE(permits(policy, "100.64.0.1", "10.0.0.1"));
  // Link-local and metadata addresses are nobody's neighbourhood; only the server's very own counts.
  CHECK_FALSE(permits(policy, "169.254.169.254", "169.254.1.1"));
  CHECK_FALSE(permits(policy, "fe80::2", "fe80::1"));
  CHECK_FALSE(permits(policy, "fd00:ec2::254", "fd12::1"));
  CHECK_FALSE(permits(policy, "100.100.100.200", "100.64.0.1"));
  CHECK(permits(policy, "fe80::1", "fe80::1"));
  CHECK(permits(policy, "203.0.113.5", "203.0.113.5"));
}

TEST_CASE("AddressPolicy: networks that are named", "[http]") {
  const AddressPolicy policy(NetworkList({"10.1.0.0/16", "fd00:c1::/32"}), nullptr);
  CHECK(permits(policy, "10.1.2.3", "9.9.9.9"));
  CHECK(permits(policy, "10.1.2.3", nullptr));
  CHECK(permits(policy, "64:ff9b::10.1.2.3", "9.9.9.9"));
  CHECK(permits(policy, "fd00:c1::a9fe:a9fe", "9.9.9.9"));
  CHECK_FALSE(permits(policy, "10.2.0.1", "9.9.9.9"));
}

TEST_CASE("AddressPolicy: never to our own listeners", "[http]") {
  const auto own = std::make_shared<OwnListeners>();
  own->add(ip("127.0.0.1"), 5001);
  const AddressPolicy policy(NetworkList({"0.0.0.0/0", "::/0"}), own);
  const std::optional<IpAddress> sender = ip("127.0.0.1");
  CHECK_FALSE(policy.permits(ip("127.0.0.1"), 5001, sender));
  CHECK_FALSE(policy.permits(ip("::ffff:127.0.0.1"), 5001, sender));
  CHECK_FALSE(policy.permits(ip("64:ff9b::127.0.0.1"), 5001, sender));
  CHECK_FALSE(policy.permits(ip("0.0.0.0"), 5001, sender));
  CHECK_FALSE(policy.permits(ip("::"), 5001, sender));
  CHECK(policy.permits(ip("127.0.0.1"), 5002, sender));
  CHECK(policy.permits(ip("127.0.0.2"), 5001, sender));
}

TEST_CASE("AddressPolicy: a host that a proxy resolves, as far as it is written down", "[http]") {
  const AddressPolicy policy({}, nullptr);
  for (const char* host : {"127.0.0.1", "0x7f.1", "2130706433", "0177.0.0.1", "::1", "localhost", "LOCALHOST.localhost",
                           "x.localhost", "169.254.169.254.", "0xa9fea9fe", "fe80::1"}) {
    std::string lower = host;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    INFO(lower);
    CHECK_FALSE(policy.permits_host(lower, 80, std::nullopt));
  }
  for (const char* host : {"storage.example", "8.8.8.8", "134744072", "localhost.example"}) {
    CHECK(policy.permits_host(host, 80, std::nullopt));
  }
}

TEST_CASE("OwnListeners: one on all addresses is on each of this machine's", "[http]") {
  for (const char* any : {"0.0.0.0", "::"}) {
    OwnListeners own;
    own.add(ip(any), 5000);
    CHECK(own.contains(ip("127.0.0.1"), 5000));
    CHECK(own.contains(ip("127.9.9.9"), 5000));
    CHECK(own.contains(ip("::1"), 5000));
    CHECK(own.contains(ip("0.0.0.0"), 5000));
    CHECK_FALSE(own.contains(ip("127.0.0.1"), 5001));
    CHECK_FALSE(own.contains(ip("8.8.8.8"), 5000));
    CHECK_FALSE(own.contains(ip("2600::1"), 5000));
    ifaddrs* first = nullptr;
    REQUIRE(::getifaddrs(&first) == 0);
    for (const ifaddrs* at = first; at != nullptr; at = at->ifa_next) {
      if (at->ifa_addr == nullptr || (at->ifa_flags & IFF_UP) == 0) continue;
      const int family = at->ifa_addr->sa_family;
      const IpAddress address = IpAddress::from(*at->ifa_addr);
      const bool link_local = family == AF_INET6 && address.bytes()[0] == 0xfe;  // needs a zone to be reached at all
      if ((family != AF_INET && family != AF_INET6) || link_local) continue;
      INFO(address.to_string());
      CHECK(own.contains(address, 5000));
    }
    ::freeifaddrs(first);
  }
}

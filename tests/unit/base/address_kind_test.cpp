#include <catch2/catch.hpp>

#include "base/address_kind.hpp"

using namespace sluice;

namespace {

AddressKind kind(const char* text) {
  const std::optional<IpAddress> address = IpAddress::parse(text);
  REQUIRE(address);
  return kind_of(*address);
}

void all(AddressKind expected, std::initializer_list<const char*> texts) {
  for (const char* text : texts) {
    INFO(text);
    CHECK(kind(text) == expected);
  }
}

}  // namespace

TEST_CASE("AddressKind: IPv4 by IANA's special-purpose registry, its borders included", "[base]") {
  using enum AddressKind;
  all(loopback, {"127.0.0.0", "127.0.0.1", "127.255.255.255"});
  all(private_use, {"10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.1", "192.168.255.255"});
  all(shared, {"100.64.0.0", "100.127.255.255"});
  all(benchmarking, {"198.18.0.0", "198.19.255.255"});
  all(special, {"0.0.0.0", "0.255.255.255", "169.254.0.1", "192.0.0.1", "192.0.0.170", "192.0.2.1", "192.88.99.1",
                "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"});
  all(global, {"1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0",
               "172.15.255.255", "172.32.0.0", "192.0.0.9", "192.0.0.10", "192.31.196.1", "192.52.193.1",
               "192.175.48.1", "198.17.255.255", "198.20.0.0", "223.255.255.255"});
}

TEST_CASE("AddressKind: IPv6", "[base]") {
  using enum AddressKind;
  all(loopback, {"::1"});
  all(private_use, {"fc00::1", "fd12:3456::1", "fdff:ffff::"});
  all(benchmarking, {"2001:2::1"});
  all(special,
      {"::", "::2", "::127.0.0.1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "100::1", "100:0:0:1::1", "2001:db8::1",
       "2001:5::1", "2001:10::1", "3fff::1", "3fff:fff::1", "4000::1", "5f00::1", "64:ff9c::1"});
  all(global, {"2000::1", "2600::1", "2a00:1450::1", "2001:200::1", "2001:1::1", "2001:3::1", "2001:4:112::1",
               "2001:20::1", "2620:4f:8000::1", "3ffe::1"});
}

TEST_CASE("AddressKind: an IPv4 address within an IPv6 one counts", "[base]") {
  using enum AddressKind;
  all(loopback, {"::ffff:127.0.0.1", "64:ff9b::127.0.0.1", "2002:7f00:1::", "2002:7f00:1::1"});
  all(metadata, {"::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "64:ff9b:1::a9fe:a9fe"});
  all(private_use, {"64:ff9b::10.1.2.3", "2002:a01:203::5"});
  all(global, {"64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8"});
  // RFC 6052 section 2.2: the same address behind prefixes of 48, 56, 64 and 96 bits.
  all(private_use, {"64:ff9b:1:a01:2:300::", "64:ff9b:1:a:1:203::", "64:ff9b:1:0:a:102:300:0", "64:ff9b:1::10.1.2.3"});
  all(global, {"64:ff9b:1:808:8:800::", "64:ff9b:1:8:8:808::", "64:ff9b:1:0:8:808:800:0", "64:ff9b:1::8.8.8.8"});
  all(special, {"64:ff9b:1::"});
  // Teredo: server 8.8.8.8, and a client behind all bits inverted.
  all(global, {"2001:0:808:808:0:0:f7f7:f7f7"});
  all(private_use, {"2001:0:808:808:0:0:f5fe:fdfc", "2001:0:a01:203:0:0:f7f7:f7f7"});
  // Neither kind stands for the other.
  all(special, {"2001:0:a01:203:0:0:80ff:fffe"});
}

TEST_CASE("AddressKind: metadata services, whatever network they took their address from", "[base]") {
  all(AddressKind::metadata, {"169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16",
                              "192.0.0.192", "fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe"});
}

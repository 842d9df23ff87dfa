#include "base/address_kind.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

namespace sluice {
namespace {

// Networks with their kind; the first that contains an address counts.
struct Block {
  Network network;
  AddressKind kind;
};

Block block(std::string_view text, AddressKind kind) { return {*Network::parse(text), kind}; }

const std::vector<Block>& v4_blocks() {
  using enum AddressKind;
  static const std::vector<Block> blocks = {
      // Not all of them are link-local: Azure's, Alibaba's, Oracle's.
      block("168.63.129.16", metadata),
      block("100.100.100.200", metadata),
      block("192.0.0.192", metadata),
      block("169.254.169.254", metadata),
      block("169.254.170.2", metadata),
      block("169.254.170.23", metadata),
      // Within 192.0.0.0/24 (RFC 7723, RFC 8155).
      block("192.0.0.9", global),
      block("192.0.0.10", global),
      block("0.0.0.0/8", special),
      block("10.0.0.0/8", private_use),
      block("100.64.0.0/10", shared),
      block("127.0.0.0/8", loopback),
      block("169.254.0.0/16", special),
      block("172.16.0.0/12", private_use),
      block("192.0.0.0/24", special),
      block("192.0.2.0/24", special),
      block("192.88.99.0/24", special),
      block("192.168.0.0/16", private_use),
      block("198.18.0.0/15", benchmarking),
      block("198.51.100.0/24", special),
      block("203.0.113.0/24", special),
      block("224.0.0.0/3", special),
      block("0.0.0.0/0", global),
  };
  return blocks;
}

const std::vector<Block>& v6_blocks() {
  using enum AddressKind;
  static const std::vector<Block> blocks = {
      // AWS's (instances, EKS), Google's, Oracle's, Scaleway's.
      block("fd00:ec2::254", metadata),
      block("fd00:ec2::23", metadata),
      block("fd20:ce::254", metadata),
      block("fd00:c1::a9fe:a9fe", metadata),
      block("fd00:42::42", metadata),
      block("::1", loopback),
      block("fc00::/7", private_use),
      block("2001:1::1", global),
      block("2001:1::2", global),
      block("2001:1::3", global),
      block("2001:2::/48", benchmarking),
      block("2001:3::/32", global),
      block("2001:4:112::/48", global),
      block("2001:20::/28", global),
      block("2001:30::/28", global),
      block("2001::/23", special),
      block("2001:db8::/32", special),
      block("3fff::/20", special),
      block("2000::/3", global),
      block("::/0", special),  // IANA has given out unicast addresses from 2000::/3 alone
  };
  return blocks;
}

const Network& nat64() {
  static const Network network = *Network::parse("64:ff9b::/96");
  return network;
}
const Network& local_nat64() {
  static const Network network = *Network::parse("64:ff9b:1::/48");
  return network;
}
const Network& six_to_four() {
  static const Network network = *Network::parse("2002::/16");
  return network;
}
const Network& teredo() {
  static const Network network = *Network::parse("2001::/32");
  return network;
}

using Bytes = std::array<std::uint8_t, 16>;

IpAddress v4_at(const Bytes& bytes, const std::array<std::size_t, 4>& places, std::uint8_t mask = 0) {
  std::array<std::uint8_t, 4> v4{};
  for (std::size_t i = 0; i < v4.size(); ++i) v4.at(i) = static_cast<std::uint8_t>(bytes.at(places.at(i)) ^ mask);
  return IpAddress::from_v4(v4.data());
}

// How the prefix lengths of RFC 6052 section 2.2 that fit into 64:ff9b:1::/48 place the address. What follows it must
// be zero, and an address of zeros is not one: mostly one reading is left.
std::vector<IpAddress> read_local_nat64(const Bytes& bytes) {
  struct Form {
    std::array<std::size_t, 4> places;
    std::size_t end;
  };
  constexpr std::array<Form, 4> kForms{
      {{{6, 7, 9, 10}, 11}, {{7, 9, 10, 11}, 12}, {{9, 10, 11, 12}, 13}, {{12, 13, 14, 15}, 16}}};
  std::vector<IpAddress> out;
  for (const Form& form : kForms) {
    const bool fits = std::all_of(bytes.begin() + static_cast<std::ptrdiff_t>(form.end), bytes.end(),
                                  [](std::uint8_t byte) { return byte == 0; });
    const bool zeros =
        std::all_of(form.places.begin(), form.places.end(), [&](std::size_t place) { return bytes.at(place) == 0; });
    if (fits && !zeros) out.push_back(v4_at(bytes, form.places));
  }
  return out;
}

AddressKind plain_kind(const IpAddress& address, const std::vector<Block>& blocks) {
  const auto at = std::find_if(blocks.begin(), blocks.end(),
                               [&](const Block& candidate) { return candidate.network.contains(address); });
  return at == blocks.end() ? AddressKind::special : at->kind;
}

}  // namespace

std::vector<IpAddress> translated(const IpAddress& address) {
  if (address.is_v4()) return {};
  const Bytes& bytes = address.bytes();
  if (nat64().contains(address)) return {v4_at(bytes, {12, 13, 14, 15})};
  if (local_nat64().contains(address)) return read_local_nat64(bytes);
  if (six_to_four().contains(address)) return {v4_at(bytes, {2, 3, 4, 5})};
  // The server, and the client, of which all bits are inverted.
  if (teredo().contains(address)) return {v4_at(bytes, {4, 5, 6, 7}), v4_at(bytes, {12, 13, 14, 15}, 0xff)};
  return {};
}

AddressKind kind_of(const IpAddress& address) {
  if (address.is_v4()) return plain_kind(address, v4_blocks());
  const std::vector<IpAddress> inner = translated(address);
  if (inner.empty()) return plain_kind(address, v6_blocks());
  AddressKind kind = plain_kind(inner.front(), v4_blocks());
  for (const IpAddress& other : inner) {
    const AddressKind another = plain_kind(other, v4_blocks());
    if (another == kind || another == AddressKind::global) continue;
    // Of two that are not global, neither may stand for the other.
    kind = kind == AddressKind::global ? another : AddressKind::special;
  }
  return kind;
}

}  // namespace sluice

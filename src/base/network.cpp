#include "base/network.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace sluice {
namespace {

constexpr std::array<std::uint8_t, 12> kV4Prefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr unsigned kV4Bits = 96;
constexpr unsigned kBits = 128;

}  // namespace

std::string_view without_port(std::string_view peer) noexcept {
  if (peer.starts_with('[')) return peer.substr(1, peer.find(']') - 1);
  const std::size_t colon = peer.find(':');
  return colon == peer.rfind(':') ? peer.substr(0, colon) : peer;
}

IpAddress IpAddress::from_v4(const std::uint8_t* bytes) noexcept {
  IpAddress out;
  std::copy(kV4Prefix.begin(), kV4Prefix.end(), out.bytes_.begin());
  std::copy(bytes, bytes + 4, out.bytes_.begin() + kV4Prefix.size());
  return out;
}

IpAddress IpAddress::from_v6(const std::uint8_t* bytes) noexcept {
  IpAddress out;
  std::copy(bytes, bytes + out.bytes_.size(), out.bytes_.begin());
  return out;
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  // inet_pton wants a terminated string; no address is longer than this.
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string terminated(text);
  std::array<std::uint8_t, 16> bytes{};
  if (::inet_pton(AF_INET, terminated.c_str(), bytes.data()) == 1) return from_v4(bytes.data());
  if (::inet_pton(AF_INET6, terminated.c_str(), bytes.data()) == 1) return from_v6(bytes.data());
  return std::nullopt;
}

IpAddress IpAddress::from(const sockaddr& address) noexcept {
  if (address.sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, &address, sizeof v4);
    std::array<std::uint8_t, 4> bytes{};
    std::memcpy(bytes.data(), &v4.sin_addr, bytes.size());
    return from_v4(bytes.data());
  }
  if (address.sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, &address, sizeof v6);
    return from_v6(v6.sin6_addr.s6_addr);
  }
  return {};
}

bool IpAddress::is_v4() const noexcept { return std::equal(kV4Prefix.begin(), kV4Prefix.end(), bytes_.begin()); }

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (is_v4()) {
    ::inet_ntop(AF_INET, &bytes_[kV4Prefix.size()], text.data(), text.size());
  } else {
    ::inet_ntop(AF_INET6, bytes_.data(), text.data(), text.size());
  }
  return text.data();
}

std::string IpAddress::with_port(std::uint16_t port) const {
  const std::string text = to_string();
  return (is_v4() ? text : "[" + text + "]") + ":" + std::to_string(port);
}

IpAddress IpAddress::client_key() const noexcept {
  IpAddress out = *this;
  if (!is_v4()) std::fill(out.bytes_.begin() + 8, out.bytes_.end(), std::uint8_t{0});
  return out;
}

std::size_t IpAddressHash::operator()(const IpAddress& address) const noexcept {
  std::uint64_t high = 0;
  std::uint64_t low = 0;
  std::memcpy(&high, address.bytes().data(), sizeof high);
  std::memcpy(&low, address.bytes().data() + sizeof high, sizeof low);
  // The finalizer of SplitMix64 on both halves.
  std::uint64_t mixed = high * 0x9e3779b97f4a7c15U ^ low;
  mixed = (mixed ^ (mixed >> 30U)) * 0xbf58476d1ce4e5b9U;
  mixed = (mixed ^ (mixed >> 27U)) * 0x94d049bb133111ebU;
  return static_cast<std::size_t>(mixed ^ (mixed >> 31U));
}

std::optional<Network> Network::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::optional<IpAddress> address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  Network out;
  out.base_ = *address;
  if (slash != std::string_view::npos) {
    const bool v4 = text.find(':') == std::string_view::npos;
    const std::string_view digits = text.substr(slash + 1);
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), out.prefix_);
    if (ec != std::errc{} || end != digits.data() + digits.size() || out.prefix_ > (v4 ? kBits - kV4Bits : kBits)) {
      return std::nullopt;
    }
    if (v4) out.prefix_ += kV4Bits;
  }
  for (unsigned bit = out.prefix_; bit < kBits; ++bit) {
    if ((address->bytes()[bit / 8] & (0x80U >> (bit % 8))) != 0) return std::nullopt;
  }
  return out;
}

bool Network::contains(const IpAddress& address) const noexcept {
  const std::size_t whole = prefix_ / 8;
  const auto& ours = base_.bytes();
  const auto& theirs = address.bytes();
  if (!std::equal(ours.begin(), ours.begin() + static_cast<std::ptrdiff_t>(whole), theirs.begin())) return false;
  if (prefix_ % 8 == 0) return true;
  const auto mask = static_cast<unsigned>(0xff00U >> (prefix_ % 8)) & 0xffU;
  return ((ours[whole] ^ theirs[whole]) & mask) == 0;
}

NetworkList::NetworkList(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    if (const std::optional<Network> network = Network::parse(text)) networks_.push_back(*network);
  }
}

bool NetworkList::contains(const IpAddress& address) const noexcept {
  return std::any_of(networks_.begin(), networks_.end(),
                     [&](const Network& network) { return network.contains(address); });
}

}  // namespace sluice

// Addresses and networks of IP: who a client is, and which list it stands on. Values; pure functions.
//
// IPv4 is kept as its IPv6 form (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), which is also how it arrives on a listener
// for both: an address is one thing however it came.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct sockaddr;

namespace sluice {

// The address of "127.0.0.1:1234" or "[::1]:1234", or an address alone, as proxies name it.
std::string_view without_port(std::string_view peer) noexcept;

class IpAddress {
 public:
  IpAddress() = default;  // ::

  // "10.0.0.1", "2001:db8::1", "::ffff:10.0.0.1"; without brackets, port and zone. Nothing for anything else.
  static std::optional<IpAddress> parse(std::string_view text);
  // AF_INET and AF_INET6; `::` for any other family.
  static IpAddress from(const sockaddr& address) noexcept;
  // 4 or 16 bytes in network order.
  static IpAddress from_v4(const std::uint8_t* bytes) noexcept;
  static IpAddress from_v6(const std::uint8_t* bytes) noexcept;

  [[nodiscard]] bool is_v4() const noexcept;
  [[nodiscard]] std::string to_string() const;
  // "10.0.0.1:5000", "[2001:db8::1]:5000".
  [[nodiscard]] std::string with_port(std::uint16_t port) const;

  // What one client has: the address of IPv4, the /64 of IPv6, out of which a host takes as many as it likes (RFC
  // 4941).
  [[nodiscard]] IpAddress client_key() const noexcept;

  [[nodiscard]] const std::array<std::uint8_t, 16>& bytes() const noexcept { return bytes_; }
  friend bool operator==(const IpAddress&, const IpAddress&) = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
};

struct IpAddressHash {
  std::size_t operator()(const IpAddress& address) const noexcept;
};

class Network {
 public:
  // "10.0.0.0/8", "2001:db8::/32", or an address for itself alone. Nothing for anything else, and for an address with
  // bits behind the prefix ("10.0.0.1/8"), which is one or the other by mistake.
  static std::optional<Network> parse(std::string_view text);

  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;
  friend bool operator==(const Network&, const Network&) = default;

 private:
  IpAddress base_;
  unsigned prefix_ = 128;  // of the IPv6 form
};

// A handful of networks, as they stand in a configuration.
class NetworkList {
 public:
  NetworkList() = default;
  // What does not parse is left out: the configuration has checked it.
  explicit NetworkList(const std::vector<std::string>& texts);

  [[nodiscard]] bool empty() const noexcept { return networks_.empty(); }
  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;

 private:
  std::vector<Network> networks_;
};

}  // namespace sluice

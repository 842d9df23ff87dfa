#include "http/proxy_protocol.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include "base/ascii.hpp"

namespace sluice::http {
namespace {

using State = ProxyHeader::State;
using Source = ProxyHeader::Source;

constexpr std::string_view kV1Start = "PROXY ";
// Section 2.1: the longest line, with its CRLF.
constexpr std::size_t kMaxV1Bytes = 107;
constexpr std::string_view kV2Start("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t kV2HeadBytes = 16;

ProxyHeader garbage() { return {State::garbage, 0, std::nullopt}; }

bool may_become(std::string_view bytes, std::string_view start) {
  const std::size_t n = std::min(bytes.size(), start.size());
  return bytes.substr(0, n) == start.substr(0, n);
}

// A decimal number without leading zeros, as section 2.1 wants it.
std::optional<std::uint16_t> port_of(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || ec != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  if (text.size() > 1 && text.front() == '0') return std::nullopt;
  return port;
}

// "TCP4 192.0.2.1 192.0.2.2 56324 443", exactly one space between the parts.
std::optional<Source> source_of_line(std::string_view line) {
  std::array<std::string_view, 5> parts;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::size_t space = line.find(' ');
    if ((space == std::string_view::npos) != (i + 1 == parts.size())) return std::nullopt;
    parts[i] = line.substr(0, space);
    line.remove_prefix(std::min(parts[i].size() + 1, line.size()));
  }
  const bool v4 = parts[0] == "TCP4";
  if (!v4 && parts[0] != "TCP6") return std::nullopt;
  const std::optional<IpAddress> source = IpAddress::parse(parts[1]);
  const std::optional<IpAddress> target = IpAddress::parse(parts[2]);
  const std::optional<std::uint16_t> source_port = port_of(parts[3]);
  if (!source || !target || !source_port || !port_of(parts[4])) return std::nullopt;
  const auto is_v4_text = [](std::string_view text) { return text.find(':') == std::string_view::npos; };
  if (is_v4_text(parts[1]) != v4 || is_v4_text(parts[2]) != v4) return std::nullopt;
  return Source{*source, *source_port};
}

ProxyHeader parse_v1(std::string_view bytes) {
  const std::size_t end = bytes.substr(0, kMaxV1Bytes).find("\r\n");
  if (end == std::string_view::npos) return bytes.size() >= kMaxV1Bytes ? garbage() : ProxyHeader{};
  const std::string_view line = bytes.substr(kV1Start.size(), end - kV1Start.size());
  // Whatever follows it, up to the end of the line, is to be ignored (section 2.1).
  if (line == "UNKNOWN" || line.starts_with("UNKNOWN ")) return {State::complete, end + 2, std::nullopt};
  const std::optional<Source> source = source_of_line(line);
  if (!source) return garbage();
  return {State::complete, end + 2, source};
}

ProxyHeader parse_v2(std::string_view bytes) {
  if (bytes.size() < kV2HeadBytes) return {};
  const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(bytes[at]); };
  const std::size_t length = std::size_t{byte(14)} << 8U | byte(15);
  const std::uint8_t version = byte(12) >> 4U;
  const std::uint8_t command = byte(12) & 0x0fU;
  if (version != 2 || command > 1 || kV2HeadBytes + length > kMaxProxyHeaderBytes) return garbage();
  if (bytes.size() < kV2HeadBytes + length) return {};
  ProxyHeader out{State::complete, kV2HeadBytes + length, std::nullopt};
  if (command == 0) return out;  // LOCAL: the addresses are to be ignored
  const auto* addresses = reinterpret_cast<const std::uint8_t*>(bytes.data() + kV2HeadBytes);
  const auto port_at = [&](std::size_t at) {
    return static_cast<std::uint16_t>(std::uint16_t{addresses[at]} << 8U | addresses[at + 1]);
  };
  switch (byte(13)) {
    case 0x00: return out;  // UNSPEC
    case 0x11:              // TCP over IPv4
      if (length < 12) return garbage();
      out.source = Source{IpAddress::from_v4(addresses), port_at(8)};
      return out;
    case 0x21:  // TCP over IPv6
      if (length < 36) return garbage();
      out.source = Source{IpAddress::from_v6(addresses), port_at(32)};
      return out;
    default: return garbage();  // datagrams and Unix sockets do not lead here
  }
}

std::optional<IpAddress> address_of(std::string_view entry) {
  if (entry.starts_with('[')) {
    const std::size_t close = entry.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    const std::string_view behind = entry.substr(close + 1);
    if (!behind.empty() && (behind.front() != ':' || !port_of(behind.substr(1)))) return std::nullopt;
    return IpAddress::parse(entry.substr(1, close - 1));
  }
  if (std::count(entry.begin(), entry.end(), ':') == 1) {
    const std::size_t colon = entry.find(':');
    if (!port_of(entry.substr(colon + 1))) return std::nullopt;
    entry = entry.substr(0, colon);
  }
  return IpAddress::parse(entry);
}

}  // namespace

ProxyHeader parse_proxy_header(std::string_view bytes) {
  if (may_become(bytes, kV1Start)) return bytes.size() < kV1Start.size() ? ProxyHeader{} : parse_v1(bytes);
  if (may_become(bytes, kV2Start)) return bytes.size() < kV2Start.size() ? ProxyHeader{} : parse_v2(bytes);
  return garbage();
}

std::optional<IpAddress> forwarded_client(std::string_view value, const NetworkList& trusted) {
  std::optional<IpAddress> out;
  for (;;) {
    const std::size_t comma = value.rfind(',');
    const std::string_view entry = trim(comma == std::string_view::npos ? value : value.substr(comma + 1));
    const std::optional<IpAddress> address = address_of(entry);
    if (!address) return out;
    out = address;
    if (comma == std::string_view::npos || !trusted.contains(*address)) return out;
    value = value.substr(0, comma);
  }
}

}  // namespace sluice::http

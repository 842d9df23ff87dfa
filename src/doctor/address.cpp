#include "doctor/address.hpp"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "base/address_kind.hpp"

namespace sluice::doctor {
namespace {

std::optional<std::uint16_t> number(std::string_view text) {
  std::uint16_t out = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  if (error != std::errc() || end != text.data() + text.size() || out == 0) return std::nullopt;
  return out;
}

}  // namespace

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

Address Address::parse(std::string_view text) {
  Address out;
  if (const std::size_t at = text.find("://"); at != std::string_view::npos) {
    out.scheme = lower(text.substr(0, at));
    text.remove_prefix(at + 3);
  }
  if (const std::size_t more = text.find_first_of("?#"); more != std::string_view::npos) {
    out.odd = true;
    text = text.substr(0, more);
  }
  const std::size_t slash = text.find('/');
  std::string_view authority = text.substr(0, slash);
  if (slash != std::string_view::npos) out.path = text.substr(slash);
  while (out.path.ends_with('/')) out.path.pop_back();
  if (const std::size_t user = authority.rfind('@'); user != std::string_view::npos) {
    out.odd = true;
    authority.remove_prefix(user + 1);
  }
  std::string_view port;
  const std::size_t bracket = authority.rfind(']');
  const std::size_t colon = authority.rfind(':');
  const bool has_port = colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
  if (has_port) {
    port = authority.substr(colon + 1);
    out.port = number(port);
    out.odd = out.odd || !out.port;
    authority = authority.substr(0, colon);
  }
  if (authority.starts_with('[') && authority.ends_with(']')) authority = authority.substr(1, authority.size() - 2);
  out.host = lower(authority);
  return out;
}

std::uint16_t Address::port_or(std::string_view fallback) const {
  if (port) return *port;
  return (scheme.empty() ? fallback : std::string_view(scheme)) == "http" ? 80 : 443;
}

std::string Address::authority() const {
  if (port) return host_port(host, *port);
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

std::string host_port(std::string_view host, std::uint16_t port) {
  if (host.find(':') != std::string_view::npos) return fmt::format("[{}]:{}", host, port);
  return fmt::format("{}:{}", host, port);
}

bool is_loopback(std::string_view host) {
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  const auto address = IpAddress::parse(host);
  return address && kind_of(*address) == AddressKind::loopback;
}

}  // namespace sluice::doctor

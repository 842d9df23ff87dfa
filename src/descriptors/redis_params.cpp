#include "descriptors/redis_params.hpp"

#include <charconv>

namespace sluice::descriptors {
namespace {

constexpr std::string_view kUnix = "unix:";
// sockaddr_un holds 108 bytes with the zero at the end.
constexpr std::size_t kMaxPathBytes = 107;

bool is_clean(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c > '~') return false;
  }
  return !text.empty();
}

}  // namespace

std::optional<RedisAddress> RedisAddress::parse(std::string_view text) {
  RedisAddress out;
  if (text.starts_with(kUnix)) {
    out.path = text.substr(kUnix.size());
    if (!out.path.starts_with('/') || out.path.size() > kMaxPathBytes) return std::nullopt;
    if (out.path.find('\0') != std::string::npos) return std::nullopt;
    return out;
  }
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    port = text.substr(close + 1);
    if (host.find(':') == std::string_view::npos) return std::nullopt;
  } else {
    const std::size_t colon = text.find(':');
    host = text.substr(0, colon);
    if (colon != std::string_view::npos) port = text.substr(colon);
  }
  if (!is_clean(host) || host.find_first_of("/[]") != std::string_view::npos) return std::nullopt;
  out.host = host;
  if (port.empty()) return out;
  if (port.front() != ':') return std::nullopt;
  port.remove_prefix(1);
  const auto [end, ec] = std::from_chars(port.data(), port.data() + port.size(), out.port);
  if (ec != std::errc{} || end != port.data() + port.size() || out.port == 0) return std::nullopt;
  return out;
}

std::string RedisAddress::to_string() const {
  if (!path.empty()) return std::string(kUnix) + path;
  const bool v6 = host.find(':') != std::string::npos;
  return (v6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

}  // namespace sluice::descriptors

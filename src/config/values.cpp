#include "config/values.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

namespace sluice::config {
namespace {

// Longer input gets no suggestion; it also bounds the work.
constexpr std::size_t kMaxSuggestedBytes = 64;

bool is_lower_alnum(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

bool is_port(std::string_view text) {
  unsigned port = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), port);
  return ec == std::errc{} && end == text.data() + text.size() && port >= 1 && port <= 65535;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_authority(std::string_view text) {
  if (text.starts_with('[')) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    if (text.substr(1, close - 1).find_first_not_of("0123456789abcdef:.") != std::string_view::npos) return false;
    text.remove_prefix(close + 1);
    return text.empty() || (text.front() == ':' && is_port(text.substr(1)));
  }
  const std::size_t colon = text.find(':');
  if (colon != std::string_view::npos && !is_port(text.substr(colon + 1))) return false;
  return is_host(text.substr(0, colon));
}

}  // namespace

bool is_host(std::string_view text) {
  if (text.empty() || text.size() > 253) return false;  // RFC 1035 section 2.3.4
  char previous = '.';
  for (const char c : text) {
    if (!is_lower_alnum(c) && c != '-' && c != '.' && c != '_') return false;
    if (c == '.' && previous == '.') return false;
    previous = c;
  }
  return text.front() != '-' && text.back() != '-';
}

bool is_redis_address(std::string_view text) {
  constexpr std::string_view kUnix = "unix:";
  // sockaddr_un holds 108 bytes with the zero at the end.
  constexpr std::size_t kMaxPathBytes = 107;
  if (text.starts_with(kUnix)) {
    text.remove_prefix(kUnix.size());
    return text.starts_with('/') && text.size() <= kMaxPathBytes && text.find('\0') == std::string_view::npos;
  }
  return is_authority(lower(text));
}

bool is_upstream_name(std::string_view text) { return !text.starts_with('[') && is_authority(text); }

std::optional<std::string> parse_upstream_url(std::string_view text) {
  const std::size_t scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos) return std::nullopt;
  const std::string scheme = lower(text.substr(0, scheme_end));
  if (scheme != "http" && scheme != "https") return std::nullopt;
  std::string_view rest = text.substr(scheme_end + 3);
  const std::size_t path_start = std::min(rest.find('/'), rest.size());
  const std::string authority = lower(rest.substr(0, path_start));
  if (!is_authority(authority)) return std::nullopt;
  std::string_view path = rest.substr(path_start);
  while (path.ends_with('/')) path.remove_suffix(1);
  for (const char c : path) {
    if (c <= ' ' || c > '~' || c == '?' || c == '#') return std::nullopt;
  }
  return scheme + "://" + authority + std::string(path);
}

std::string_view url_authority(std::string_view url) {
  url.remove_prefix(std::min(url.find("://") + 3, url.size()));
  return url.substr(0, url.find('/'));
}

std::optional<std::string> parse_proxy_url(std::string_view text) {
  constexpr std::string_view kScheme = "http://";
  if (lower(text.substr(0, kScheme.size())) == kScheme) text.remove_prefix(kScheme.size());
  const std::size_t at = text.rfind('@');
  const std::string_view user = at == std::string_view::npos ? std::string_view() : text.substr(0, at + 1);
  std::string_view rest = text.substr(user.size());
  while (rest.ends_with('/')) rest.remove_suffix(1);
  if (user == "@" || user.find_first_of("/?# ") != std::string_view::npos) return std::nullopt;
  const std::string authority = lower(rest);
  if (!is_authority(authority)) return std::nullopt;
  return std::string(kScheme) + std::string(user) + authority;
}

bool is_no_proxy(std::string_view text) {
  return !text.empty() && text.find_first_of(" \t,\"\\") == std::string_view::npos && text.size() <= 253;
}

bool is_repository_pattern(std::string_view text) {
  return !text.empty() && text.size() <= 255 && std::all_of(text.begin(), text.end(), [](char c) {
    return is_lower_alnum(c) || c == '*' || c == '/' || c == '.' || c == '_' || c == '-';
  });
}

bool is_scope_pattern(std::string_view text) {
  const std::string_view host = text.substr(0, text.find('/'));
  const std::size_t colon = host.find(':');
  if (colon == std::string_view::npos) return is_repository_pattern(text);
  std::string without_port(text);
  return is_repository_pattern(without_port.erase(colon, 1));
}

bool is_docker_hub(std::string_view authority) {
  constexpr std::array<std::string_view, 4> kHosts{"registry-1.docker.io", "index.docker.io", "docker.io",
                                                   "registry.docker.io"};
  return std::find(kHosts.begin(), kHosts.end(), authority) != kHosts.end();
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  if (a.size() > kMaxSuggestedBytes || b.size() > kMaxSuggestedBytes) return std::max(a.size(), b.size());
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      d[i][j] = std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, replaced});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace sluice::config

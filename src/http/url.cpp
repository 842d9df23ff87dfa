#include "http/url.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include <arpa/inet.h>
#include <netinet/in.h>

// Read by hand: Boost.URL 1.81 aborts on an assertion for inputs as short as "BN12:\x1f", takes "//host:5x/" for port
// 5, and we need no more than this of RFC 3986.

namespace sluice::http {
namespace {

// Longer ones than any presigned URL that clouds hand out (RFC 9110 section 4.1 recommends 8000 as the least that
// everybody takes).
constexpr std::size_t kMaxUrlBytes = 16 << 10;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
bool is_alpha(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

std::string lowercase(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}

void append_encoded(std::string& out, char c) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  out += '%';
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

Error bad(std::string_view why) { return {Errc::upstream_protocol, "bad URL: " + std::string(why)}; }

// A URI reference taken apart (RFC 3986 appendix B), without its fragment. Views into the text.
struct Parts {
  std::optional<std::string_view> scheme;
  std::optional<std::string_view> authority;
  std::string_view path;
  std::optional<std::string_view> query;
};

Parts split(std::string_view text) {
  Parts parts;
  text = text.substr(0, text.find('#'));
  const std::size_t mark = text.find_first_of(":/?");
  if (mark != std::string_view::npos && text[mark] == ':') {
    parts.scheme = text.substr(0, mark);
    text.remove_prefix(mark + 1);
  }
  if (text.starts_with("//")) {
    const std::size_t end = std::min(text.find_first_of("/?", 2), text.size());
    parts.authority = text.substr(2, end - 2);
    text.remove_prefix(end);
  }
  const std::size_t question = text.find('?');
  parts.path = text.substr(0, question);
  if (question != std::string_view::npos) parts.query = text.substr(question + 1);
  return parts;
}

// Encodes what servers send in a path or query although RFC 3986 does not have it; nothing for control characters.
std::optional<std::string> mend(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return std::nullopt;
    const bool odd = std::string_view(" \"<>[\\]^`{|}").find(c) != std::string_view::npos ||
                     static_cast<unsigned char>(c) >= 0x80 ||
                     (c == '%' && !(i + 2 < text.size() && is_hex(text[i + 1]) && is_hex(text[i + 2])));
    if (odd) {
      append_encoded(out, c);
    } else {
      out += c;
    }
  }
  return out;
}

// RFC 3986 section 5.2.4, for a path that starts with a slash.
std::string without_dots(std::string_view path) {
  std::string out;
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/', 1), path.size());
    const std::string_view segment = path.substr(0, end);  // with its slash in front
    path.remove_prefix(end);
    if (segment == "/..") {
      out.erase(std::min(out.rfind('/'), out.size()));
    } else if (segment != "/.") {
      out += segment;
      continue;
    }
    if (path.empty()) out += '/';
  }
  return out;
}

Result<std::uint16_t> parse_port(std::string_view digits) {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc{} || end != digits.data() + digits.size() || port == 0 || port > 65535) return bad("port");
  return static_cast<std::uint16_t>(port);
}

Result<void> set_scheme(Url& url, std::string_view scheme) {
  url.scheme = lowercase(scheme);
  if (url.scheme != "http" && url.scheme != "https") return bad("neither http nor https");
  return {};
}

// For a Url that has its scheme.
Result<void> set_authority(Url& url, std::string_view authority) {
  // RFC 9110 section 4.2.4: userinfo is to be taken as an error from an untrusted source.
  if (authority.find('@') != std::string_view::npos) return bad("userinfo in front of the host");
  std::size_t end = 0;
  if (authority.starts_with('[')) {
    end = authority.find(']');
    if (end == std::string_view::npos) return bad("address");
    url.host = lowercase(authority.substr(1, end - 1));
    in6_addr v6{};
    // No zone, and no NUL that inet_pton would stop at.
    const bool plain =
        std::all_of(url.host.begin(), url.host.end(), [](char c) { return is_hex(c) || c == ':' || c == '.'; });
    if (!plain || inet_pton(AF_INET6, url.host.c_str(), &v6) != 1) return bad("address");
    ++end;
  } else {
    end = std::min(authority.find(':'), authority.size());
    url.host = lowercase(authority.substr(0, end));
    if (url.host.empty()) return bad("no host");
    const bool name = std::all_of(url.host.begin(), url.host.end(), [](char c) {
      return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_';
    });
    if (!name) return bad("characters no host name has");
  }
  url.port = url.is_tls() ? 443 : 80;
  std::string_view rest = authority.substr(end);
  if (rest.empty()) return {};
  if (rest.front() != ':') return bad("port");
  rest.remove_prefix(1);
  if (rest.empty()) return {};
  const Result<std::uint16_t> port = parse_port(rest);
  if (!port) return port.error();
  url.port = *port;
  return {};
}

Result<void> set_target(Url& url, std::string_view path, std::optional<std::string_view> query) {
  std::string text(path.empty() ? "/" : path);
  if (query) {
    text += '?';
    text += *query;
  }
  std::optional<std::string> mended = mend(text);
  if (!mended) return bad("control character");
  url.target = std::move(*mended);
  return {};
}

bool is_scheme(std::string_view text) {
  return !text.empty() && is_alpha(text.front()) && std::all_of(text.begin(), text.end(), [](char c) {
    return is_alpha(c) || is_digit(c) || c == '+' || c == '-' || c == '.';
  });
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return bad("too long");
  const Parts parts = split(text);
  if (!parts.scheme || !parts.authority) return bad("not an absolute URL");
  Url url;
  if (const Result<void> set = set_scheme(url, *parts.scheme); !set) return set.error();
  if (const Result<void> set = set_authority(url, *parts.authority); !set) return set.error();
  if (const Result<void> set = set_target(url, parts.path, parts.query); !set) return set.error();
  return url;
}

// RFC 3986 section 5.2.2.
Result<Url> Url::resolve(std::string_view text) const {
  if (text.size() > kMaxUrlBytes) return bad("too long");
  const Parts parts = split(text);
  if (parts.scheme && !parts.authority) {
    return bad(is_scheme(*parts.scheme) ? "no host" : "not a URL reference");
  }
  Url url = *this;
  if (parts.scheme) {
    if (const Result<void> set = set_scheme(url, *parts.scheme); !set) return set.error();
  }
  std::optional<std::string_view> query = parts.query;
  std::string path;
  if (parts.authority) {
    if (const Result<void> set = set_authority(url, *parts.authority); !set) return set.error();
    path = without_dots(parts.path);
  } else if (parts.path.empty()) {
    path = this->path();
    const std::size_t question = target.find('?');
    if (!query && question != std::string::npos) query = std::string_view(target).substr(question + 1);
  } else if (parts.path.front() == '/') {
    path = without_dots(parts.path);
  } else {
    const std::string_view own = this->path();
    path = without_dots(std::string(own.substr(0, own.rfind('/') + 1)) + std::string(parts.path));
  }
  if (const Result<void> set = set_target(url, path, query); !set) return set.error();
  return url;
}

std::string_view Url::path() const noexcept {
  const std::string_view all = target;
  return all.substr(0, all.find('?'));
}

std::string Url::authority() const {
  std::string out = host.find(':') == std::string::npos ? host : "[" + host + "]";
  if (port != (is_tls() ? 443 : 80)) out += ":" + std::to_string(port);
  return out;
}

std::string Url::to_string() const { return scheme + "://" + authority() + target; }

bool Url::has_ip_host() const noexcept {
  in_addr v4{};
  in6_addr v6{};
  return inet_pton(AF_INET, host.c_str(), &v4) == 1 || inet_pton(AF_INET6, host.c_str(), &v6) == 1;
}

std::string percent_encode(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 16);
  for (const char c : text) {
    if (is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~') {
      out += c;
    } else {
      append_encoded(out, c);
    }
  }
  return out;
}

}  // namespace sluice::http

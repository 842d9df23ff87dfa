#include "http/url.hpp"

#include <algorithm>
#include <array>
#include <charconv>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <boost/url/error.hpp>
#include <boost/url/parse.hpp>
#include <boost/url/url.hpp>
#include <boost/url/url_view.hpp>

namespace sluice::http {
namespace {

namespace urls = boost::urls;

// Longer ones than any presigned URL that clouds hand out, shorter than what servers refuse (RFC 9110 section 4.1
// recommends 8000 as the least that everybody takes).
constexpr std::size_t kMaxUrlBytes = 16 << 10;

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

void append_encoded(std::string& out, char c) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  const auto byte = static_cast<unsigned char>(c);
  out += '%';
  out += kHex[byte >> 4];
  out += kHex[byte & 15];
}

// Where an authority ends, 0 when the reference has none.
std::size_t authority_end(std::string_view text) {
  const std::size_t slashes = text.find("//");
  if (slashes == std::string_view::npos) return 0;
  if (slashes != 0 && (text[slashes - 1] != ':' || text.find_first_of("/?#") < slashes)) return 0;
  return std::min(text.find_first_of("/?#", slashes + 2), text.size());
}

// Encodes what servers send although RFC 3986 does not have it. Control characters stay, and so fail to parse.
std::string mend(std::string_view text) {
  const std::size_t authority = authority_end(text);
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool odd = std::string_view(" \"<>\\^`{|}").find(c) != std::string_view::npos ||
                     static_cast<unsigned char>(c) >= 0x80 || c == '[' || c == ']' ||
                     (c == '%' && !(i + 2 < text.size() && is_hex(text[i + 1]) && is_hex(text[i + 2])));
    if (odd && i >= authority) {
      append_encoded(out, c);
    } else {
      out += c;
    }
  }
  return out;
}

Error bad(std::string_view why) { return {Errc::upstream_protocol, "bad URL: " + std::string(why)}; }

bool is_lower_ldh(std::string_view host) {
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
  });
}

Result<Url> from_view(const urls::url_view& view) {
  Url url;
  url.scheme = std::string(view.scheme());
  std::transform(url.scheme.begin(), url.scheme.end(), url.scheme.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (url.scheme != "http" && url.scheme != "https") return bad("neither http nor https");
  if (!view.has_authority()) return bad("no host");
  // RFC 9110 section 4.2.4: userinfo is to be taken as an error from an untrusted source.
  if (view.has_userinfo()) return bad("userinfo in front of the host");

  url.host = view.host_address();
  std::transform(url.host.begin(), url.host.end(), url.host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (url.host.empty()) return bad("no host");
  if (view.host_type() == urls::host_type::ipvfuture) return bad("an unknown kind of address");
  if (view.host_type() == urls::host_type::name && !is_lower_ldh(url.host)) return bad("characters no host name has");

  url.port = url.is_tls() ? 443 : 80;
  if (view.has_port() && !view.port().empty()) {
    const std::string_view digits(view.port().data(), view.port().size());
    unsigned port = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (error != std::errc{} || end != digits.data() + digits.size() || port == 0 || port > 65535) return bad("port");
    url.port = static_cast<std::uint16_t>(port);
  }

  url.target = std::string(view.encoded_path());
  if (url.target.empty()) url.target = "/";
  // Boost 1.81 takes "//host:5x/" for port 5 and a path "x/".
  if (url.target.front() != '/') return bad("port");
  if (view.has_query()) url.target += "?" + std::string(view.encoded_query());
  return url;
}

}  // namespace

Result<Url> Url::parse(std::string_view text) {
  if (text.size() > kMaxUrlBytes) return bad("too long");
  const std::string mended = mend(text);
  const auto view = urls::parse_uri(mended);
  if (!view) return bad("not an absolute URL");
  return from_view(*view);
}

Result<Url> Url::resolve(std::string_view text) const {
  if (text.size() > kMaxUrlBytes) return bad("too long");
  const std::string mended = mend(text);
  const auto reference = urls::parse_uri_reference(mended);
  if (!reference) return bad("not a URL reference");
  const std::string own = to_string();
  const auto base = urls::parse_uri(own);
  if (!base) return bad("base");
  urls::url joined;
  if (!urls::resolve(*base, *reference, joined)) return bad("not a URL reference");
  // Read again: what Boost 1.81 keeps about a resolved URL is not always consistent.
  const std::string text_joined(joined.buffer());
  const auto view = urls::parse_uri(text_joined);
  if (!view) return bad("not a URL reference");
  return from_view(*view);
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
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                            c == '.' || c == '_' || c == '~';
    if (unreserved) {
      out += c;
    } else {
      append_encoded(out, c);
    }
  }
  return out;
}

}  // namespace sluice::http

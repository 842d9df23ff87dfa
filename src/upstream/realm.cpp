#include "upstream/realm.hpp"

#include <algorithm>
#include <array>

namespace sluice::upstream {
namespace {

// Suffixes of two labels under which unrelated parties have names: country second levels, and hosters that give their
// customers a subdomain.
constexpr std::array<std::string_view, 58> kSharedSuffixes = {
    "ac.uk",          "co.uk",       "gov.uk",        "ltd.uk",
    "me.uk",          "net.uk",      "org.uk",        "plc.uk",
    "ac.jp",          "co.jp",       "go.jp",         "ne.jp",
    "or.jp",          "com.au",      "edu.au",        "gov.au",
    "net.au",         "org.au",      "co.nz",         "net.nz",
    "org.nz",         "com.br",      "net.br",        "org.br",
    "com.cn",         "net.cn",      "org.cn",        "gov.cn",
    "co.in",          "net.in",      "org.in",        "co.kr",
    "or.kr",          "co.za",       "org.za",        "com.mx",
    "com.tr",         "com.tw",      "org.tw",        "com.hk",
    "com.sg",         "com.ar",      "co.il",         "com.pl",
    "com.ua",         "co.id",       "com.my",        "com.vn",
    "github.io",      "gitlab.io",   "herokuapp.com", "azurewebsites.net",
    "cloudfront.net", "appspot.com", "run.app",       "pages.dev",
    "workers.dev",    "fly.dev",
};

// Longer ones.
constexpr std::array<std::string_view, 5> kSharedDeepSuffixes = {
    "amazonaws.com", "amazonaws.com.cn", "cloudapp.azure.com", "on.aws", "azurecr.io",
};

bool ends_with_label(std::string_view host, std::string_view suffix) {
  return host.size() > suffix.size() && host.substr(host.size() - suffix.size()) == suffix &&
         host[host.size() - suffix.size() - 1] == '.';
}

// The last `labels` labels.
std::string_view tail(std::string_view host, int labels) {
  std::size_t at = host.size();
  for (int i = 0; i < labels; ++i) {
    at = at == 0 ? std::string_view::npos : host.rfind('.', at - 1);
    if (at == std::string_view::npos) return host;
  }
  return host.substr(at + 1);
}

bool is_local(const http::Url& url) {
  return url.has_ip_host() || url.host == "localhost" || url.host.find('.') == std::string::npos;
}

}  // namespace

std::string_view registrable_domain(std::string_view host) noexcept {
  if (!host.empty() && host.back() == '.') host.remove_suffix(1);
  for (const std::string_view suffix : kSharedDeepSuffixes) {
    // Below these, how many labels belong to one party differs from service to service: only the same host counts.
    if (host == suffix || ends_with_label(host, suffix)) return host;
  }
  const std::string_view two = tail(host, 2);
  const bool shared = std::find(kSharedSuffixes.begin(), kSharedSuffixes.end(), two) != kSharedSuffixes.end();
  return shared ? tail(host, 3) : two;
}

bool may_see_credentials(const http::Url& registry, const http::Url& realm,
                         std::span<const std::string> trusted) noexcept {
  if (registry.is_tls() && !realm.is_tls()) return false;
  const std::string with_port = realm.host + ":" + std::to_string(realm.port);
  for (const std::string& entry : trusted) {
    if (entry == realm.host || entry == with_port) return true;
  }
  if (is_local(registry) || is_local(realm)) return registry.host == realm.host && registry.port == realm.port;
  return registry.host == realm.host || registrable_domain(registry.host) == registrable_domain(realm.host);
}

}  // namespace sluice::upstream

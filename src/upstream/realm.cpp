#include "upstream/realm.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>

#include <libpsl.h>

namespace sluice::upstream {
namespace {

// Where customers get names below each other's, and the list of Debian 12 does not say so. Below these only the same
// host counts.
constexpr std::array<std::string_view, 51> kSharedByCustomers = {
    "aliyuncs.com",
    "amazonaws.com",
    "amazonaws.com.cn",
    "amazonlightsail.com",
    "appdomain.cloud",
    "awsapprunner.com",
    "azure-api.net",
    "azure.com",
    "azurecontainerapps.io",
    "azurecr.cn",
    "azurecr.io",
    "azurecr.us",
    "azureedge.net",
    "azurefd.net",
    "b-cdn.net",
    "civo.com",
    "cloud.gov",
    "cloud.sap",
    "cpln.io",
    "devtunnels.ms",
    "github.dev",
    "googleusercontent.com",
    "hf.space",
    "hwclouds-dns.com",
    "ionos.com",
    "jfrog.io",
    "koyeb.app",
    "linodeusercontent.com",
    "loca.lt",
    "myhuaweicloud.com",
    "ngrok-free.app",
    "ngrok.app",
    "ngrok.dev",
    "ngrok.io",
    "nip.io",
    "on.aws",
    "openshiftapps.com",
    "ovh.net",
    "railway.app",
    "replit.app",
    "sonatype.app",
    "sslip.io",
    "surge.sh",
    "tencentcloudcr.com",
    "traefik.me",
    "trafficmanager.net",
    "volces.com",
    "vultrusercontent.com",
    "windows.net",
    "your-server.de",
    "zrok.io",
};

// Null only where memory has run out: then no two names are related.
const psl_ctx_t* suffixes() {
  struct Free {
    void operator()(psl_ctx_t* list) const { psl_free(list); }
  };
  // The system's file where it is newer than what the library was built with.
  static const std::unique_ptr<psl_ctx_t, Free> list(psl_latest(nullptr));
  return list.get();
}

bool is_local(const http::Url& url) {
  return url.has_ip_host() || url.host == "localhost" || url.host.find('.') == std::string::npos;
}

}  // namespace

std::string registrable_domain(std::string host) {
  if (!host.empty() && host.back() == '.') host.pop_back();
  const char* const domain = suffixes() == nullptr ? nullptr : psl_registrable_domain(suffixes(), host.c_str());
  if (domain == nullptr) return {};
  const std::string_view found = domain;
  const bool shared = std::any_of(kSharedByCustomers.begin(), kSharedByCustomers.end(), [&](std::string_view suffix) {
    return found == suffix || (found.ends_with(suffix) && found[found.size() - suffix.size() - 1] == '.');
  });
  return shared ? std::string() : std::string(found);
}

bool may_see_credentials(const http::Url& registry, const http::Url& realm, std::span<const std::string> trusted) {
  if (registry.is_tls() && !realm.is_tls()) return false;
  const std::string with_port = realm.host + ":" + std::to_string(realm.port);
  for (const std::string& entry : trusted) {
    if (entry == realm.host || entry == with_port) return true;
  }
  if (is_local(registry) || is_local(realm)) return registry.host == realm.host && registry.port == realm.port;
  if (registry.host == realm.host) return true;
  const std::string domain = registrable_domain(registry.host);
  return !domain.empty() && domain == registrable_domain(realm.host);
}

}  // namespace sluice::upstream

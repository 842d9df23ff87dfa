#include "app/upstream_params.hpp"

#include <stdexcept>

#include <fmt/format.h>

#include "app/version.hpp"
#include "http/proxy.hpp"
#include "upstream/credential_source.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;
using upstream::CredentialSource;

// Files are small, and secrets are exchanged under running programs.
constexpr auto kFileLifetime = 10s;
// What docker's config.json says of helpers has no lifetime of its own.
constexpr auto kHelperLifetime = 10min;
constexpr auto kHelperTimeout = 10s;

http::Url parsed(const std::string& name, const std::string& text) {
  const Result<http::Url> url = http::Url::parse(text);
  if (!url) throw std::runtime_error(fmt::format("upstreams.{}: a URL: {}", name, url.error().message));
  return *url;
}

http::ProxyServer proxy_server(const std::string& key, const std::string& url) {
  Result<http::ProxyServer> server = http::ProxyServer::parse(url);
  if (!server) throw std::runtime_error(fmt::format("{}: {}", key, server.error().message));
  return std::move(*server);
}

// Null: everything is reached directly.
std::shared_ptr<const http::ProxyRules> proxy_rules(const config::Settings& settings, const std::string& name,
                                                    const config::Upstream& from) {
  if (from.proxy == "off") return nullptr;
  http::ProxyRules::Params params;
  if (!from.proxy.empty()) {
    // Meant for this upstream: no exceptions.
    params.https = params.http = proxy_server(fmt::format("upstreams.{}.proxy", name), from.proxy);
    params.loopback_directly = false;
    return std::make_shared<http::ProxyRules>(std::move(params));
  }
  const config::Proxy& proxy = settings.proxy;
  if (!proxy.https.empty() && proxy.https != "off") params.https = proxy_server("proxy.https", proxy.https);
  if (!proxy.http.empty() && proxy.http != "off") params.http = proxy_server("proxy.http", proxy.http);
  if (!params.https && !params.http) return nullptr;
  params.no_proxy = proxy.no_proxy;
  return std::make_shared<http::ProxyRules>(std::move(params));
}

// Null: anonymous.
std::shared_ptr<CredentialSource> credential_source(const std::string& name, const config::Login& from,
                                                    const Clock& clock, metrics::Registry& registry) {
  CredentialSource::Params params;
  params.name = name;
  params.failures = &registry.counter("sluice_upstream_credential_failures_total",
                                      "Look-ups of credentials that failed.", {{"upstream", name}});
  if (!from.docker_config.empty()) {
    params.look_up = upstream::from_docker_config(from.docker_config, kHelperTimeout, kHelperLifetime);
    params.lifetime = kFileLifetime;
  } else if (!from.credential_helper.empty()) {
    params.look_up = upstream::from_helper(from.credential_helper, kHelperTimeout);
    params.lifetime = from.credential_lifetime;
  } else if (!from.password_file.empty()) {
    params.look_up = upstream::from_password_file(from.username, from.password_file);
    params.lifetime = kFileLifetime;
  } else if (!from.password.empty()) {
    params.look_up = upstream::configured({from.username, from.password});
  } else {
    return nullptr;
  }
  return std::make_shared<CredentialSource>(std::move(params), clock);
}

}  // namespace

upstream::HttpRegistry::Params registry_params(const config::Settings& settings, const std::string& name,
                                               const config::Upstream& from, std::size_t receive_buffer_bytes,
                                               const Clock& clock, metrics::Registry& registry) {
  upstream::HttpRegistry::Params params;
  params.name = name;
  params.base = parsed(name, from.url);
  for (const std::string& endpoint : from.endpoints) params.further.push_back(parsed(name, endpoint));
  params.credential_source = credential_source(name, from, clock, registry);
  for (const config::CredentialRule& rule : from.credentials) {
    params.credential_rules.push_back({rule.repositories, credential_source(name, rule, clock, registry)});
  }
  params.trusted_realm_hosts = from.realm_hosts;
  params.redirect_networks = from.redirect_networks;
  params.http_realm = from.http_realm;
  params.http_redirects = from.http_redirects;
  params.ca_file = from.ca_file.native();
  params.cert_file = from.cert_file.native();
  params.key_file = from.key_file.native();
  params.proxies = proxy_rules(settings, name, from);
  params.docker_hub_library_prefix = from.library_prefix;
  params.connect_timeout = from.connect_timeout;
  params.headers_timeout = from.headers_timeout;
  params.request_timeout = from.request_timeout;
  params.endpoint_timeout = from.endpoint_timeout;
  params.first_byte_timeout = from.first_byte_timeout;
  params.stall_timeout = from.stall_timeout;
  params.retries = from.retries;
  params.max_connections = from.max_connections;
  params.requests_per_second = static_cast<double>(from.requests_per_second);
  params.receive_buffer_bytes = receive_buffer_bytes;
  params.user_agent = "sluice/" + std::string(version());
  return params;
}

}  // namespace sluice::app

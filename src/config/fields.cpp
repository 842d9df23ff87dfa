#include "config/fields.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "base/mask.hpp"
#include "base/network.hpp"
#include "base/units.hpp"
#include "config/field_makers.hpp"
#include "config/values.hpp"

namespace sluice::config {
namespace {

using namespace std::chrono_literals;
using namespace fields;

Field<Settings> window() {
  return {"fill.window", "a size from 256KiB to 64GiB, or off",
          [](Settings& settings, std::string_view value) {
            if (value == "off") {
              settings.fill.window_bytes = 0;
              return true;
            }
            const Result<std::uint64_t> parsed = parse_bytes(value);
            if (!parsed || *parsed < 256 * kKiB || *parsed > 64 * kGiB) return false;
            settings.fill.window_bytes = *parsed;
            return true;
          },
          [](const Settings& settings) {
            return settings.fill.window_bytes == 0 ? std::string("off") : exact_bytes(settings.fill.window_bytes);
          }};
}

// In octal, as chmod takes it.
Field<Settings> file_mode() {
  return {"store.mode", "permissions in octal from 0600 to 0666: 0600, 0640 or 0644, for example",
          [](Settings& settings, std::string_view value) {
            unsigned mode = 0;
            const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), mode, 8);
            if (error != std::errc{} || end != value.data() + value.size()) return false;
            if ((mode & 0600U) != 0600U || (mode & ~0666U) != 0) return false;
            settings.store.mode = mode;
            return true;
          },
          [](const Settings& settings) { return in_quotes(fmt::format("{:04o}", settings.store.mode)); }};
}

Field<Settings> range_limit() {
  return {"fill.range_limit", "a size from 1KiB to 1TiB, or off",
          [](Settings& settings, std::string_view value) {
            const Result<std::uint64_t> parsed = value == "off" ? Result<std::uint64_t>(0) : parse_bytes(value);
            if (!parsed || (value != "off" && (*parsed < kKiB || *parsed > 1024 * kGiB))) return false;
            settings.fill.range_limit_bytes = *parsed;
            return true;
          },
          [](const Settings& settings) {
            const std::uint64_t bytes = settings.fill.range_limit_bytes;
            return bytes == 0 ? std::string("off") : exact_bytes(bytes);
          }};
}

Field<Settings> host_pattern() {
  return {"server.host_pattern", "a host name with one * in the place of the upstream's name, such as *.cache.example",
          [](Settings& settings, std::string_view value) {
            const std::size_t star = value.find('*');
            if (star == std::string_view::npos || value.size() == 1) return false;
            // With a name in its place it has to be a host.
            std::string host(value);
            if (!is_host(host.replace(star, 1, "a"))) return false;
            settings.server.host_pattern = std::string(value);
            return true;
          },
          [](const Settings& settings) { return in_quotes(settings.server.host_pattern); }};
}

Field<Settings> instance_id() {
  return {"server.instance_id", "a name of up to 64 letters, digits, dots, hyphens and underscores",
          [](Settings& settings, std::string_view value) {
            const auto is_plain = [](char c) {
              return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                     c == '-' || c == '_';
            };
            if (value.empty() || value.size() > 64 || !std::all_of(value.begin(), value.end(), is_plain)) return false;
            settings.server.instance_id = std::string(value);
            return true;
          },
          [](const Settings& settings) { return in_quotes(settings.server.instance_id); }};
}

Field<Upstream> url() {
  return {"url", "a URL such as https://registry.example.com, without user, query and fragment",
          [](Upstream& upstream, std::string_view value) {
            const std::optional<std::string> parsed = parse_upstream_url(value);
            if (!parsed) return false;
            upstream.url = *parsed;
            return true;
          },
          [](const Upstream& upstream) { return in_quotes(upstream.url); }, true};
}

bool is_url(std::string_view text) { return parse_upstream_url(text).has_value(); }

constexpr std::array<std::pair<std::string_view, log::Level>, 5> kLevels{{{"debug", log::Level::debug},
                                                                          {"info", log::Level::info},
                                                                          {"warn", log::Level::warn},
                                                                          {"error", log::Level::error},
                                                                          {"off", log::Level::off}}};
constexpr std::array<std::pair<std::string_view, log::Format>, 2> kFormats{
    {{"text", log::Format::text}, {"json", log::Format::json}}};
constexpr std::array<std::pair<std::string_view, Abandoned>, 2> kAbandoned{
    {{"finish", Abandoned::finish}, {"park", Abandoned::park}}};
constexpr std::array<std::pair<std::string_view, Ranges>, 2> kRanges{
    {{"direct", Ranges::direct}, {"fill", Ranges::fill}}};
constexpr std::array<std::pair<std::string_view, Prefetch>, 3> kPrefetches{
    {{"none", Prefetch::none}, {"config", Prefetch::config}, {"layers", Prefetch::layers}}};
constexpr std::array<std::pair<std::string_view, DescriptorCache>, 3> kDescriptorCaches{
    {{"memory", DescriptorCache::memory}, {"redis", DescriptorCache::redis}, {"none", DescriptorCache::none}}};

constexpr std::array<std::pair<std::string_view, Access>, 2> kAccess{
    {{"open", Access::open}, {"passthrough", Access::passthrough}}};

// Of an upstream; without one of its own `fill.prefetch` counts.
Field<Upstream> own_prefetch() {
  const Field<Prefetch> of = choice<Prefetch>("prefetch", kPrefetches, [](auto& p) -> auto& { return p; });
  return {
      "prefetch", of.expected,
      [of](Upstream& upstream, std::string_view value) {
        Prefetch parsed{};
        if (!of.set(parsed, value)) return false;
        upstream.prefetch = parsed;
        return true;
      },
      [of](const Upstream& upstream) { return upstream.prefetch ? of.show(*upstream.prefetch) : std::string("\"\""); }};
}

constexpr std::array<std::pair<std::string_view, ClientCertificate>, 2> kClientCertificates{
    {{"required", ClientCertificate::required}, {"optional", ClientCertificate::optional}}};

bool is_network(std::string_view text) { return Network::parse(text).has_value(); }
constexpr const char* kNetworks = "a list of networks such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7";

// Who may come in.
void add_entry_fields(std::vector<Field<Settings>>& f) {
  using S = Settings;
  f.push_back(list<S>("server.allow", kNetworks, is_network, [](auto& s) -> auto& { return s.server.allow; }));
  f.push_back(list<S>("server.deny", kNetworks, is_network, [](auto& s) -> auto& { return s.server.deny; }));
  f.push_back(list<S>("server.trusted_proxies", kNetworks, is_network,
                      [](auto& s) -> auto& { return s.server.trusted_proxies; }));
  f.push_back(flag<S>("server.proxy_protocol", [](auto& s) -> auto& { return s.server.proxy_protocol; }));
  f.push_back(number<S>(
      "server.client.max_connections", 0, 1'000'000, [](auto& s) -> auto& { return s.server.client.max_connections; },
      " (0: no limit)"));
  f.push_back(number<S>(
      "server.client.requests_per_second", 0, 1'000'000,
      [](auto& s) -> auto& { return s.server.client.requests_per_second; }, " (0: no limit)"));
  f.push_back(text<S>("server.tls.cert_file", "a PEM file", [](auto& s) -> auto& { return s.server.tls.cert_file; }));
  f.push_back(text<S>("server.tls.key_file", "a PEM file", [](auto& s) -> auto& { return s.server.tls.key_file; }));
  f.push_back(
      text<S>("server.tls.client_ca_file", "a PEM file", [](auto& s) -> auto& { return s.server.tls.client_ca_file; }));
  f.push_back(choice<S>("server.tls.client_certificate", kClientCertificates,
                        [](auto& s) -> auto& { return s.server.tls.client_certificate; }));
  f.push_back(text<S>("auth.htpasswd_file", "a file", [](auto& s) -> auto& { return s.auth.htpasswd_file; }));
  f.push_back(
      text<S>("auth.realm", "a name without quotes and backslashes", [](auto& s) -> auto& { return s.auth.realm; }));
  f.back().set = [](S& s, std::string_view value) {
    const bool plain =
        std::all_of(value.begin(), value.end(), [](char c) { return c >= ' ' && c < 0x7f && c != '"' && c != '\\'; });
    if (value.empty() || !plain) return false;
    s.auth.realm = std::string(value);
    return true;
  };
  f.push_back(duration<S>("auth.remember", 0ms, 1h, [](auto& s) -> auto& { return s.auth.remember; }));
  const std::string patterns = "a list of patterns such as docker.io/library/* or ghcr.io/**";
  f.push_back(
      list<S>("repositories.allow", patterns, is_scope_pattern, [](auto& s) -> auto& { return s.repositories.allow; }));
  f.push_back(
      list<S>("repositories.deny", patterns, is_scope_pattern, [](auto& s) -> auto& { return s.repositories.deny; }));
}

void add_redis_fields(std::vector<Field<Settings>>& f) {
  using S = Settings;
  f.push_back(list<S>("redis.addresses", "a list of addresses such as 127.0.0.1:6379 or unix:/run/redis.sock",
                      is_redis_address, [](auto& s) -> auto& { return s.redis.addresses; }));
  f.back().secret = true;
  f.push_back(text<S>("redis.username", "a name", [](auto& s) -> auto& { return s.redis.username; }));
  f.push_back(text<S>("redis.password", "a password", [](auto& s) -> auto& { return s.redis.password; }));
  f.back().secret = true;
  f.back().show = [](const S& s) { return in_quotes(s.redis.password.empty() ? "" : "***"); };
  f.push_back(text<S>("redis.password_file", "a file", [](auto& s) -> auto& { return s.redis.password_file; }));
  f.push_back(number<S>("redis.db", 0, 65'535, [](auto& s) -> auto& { return s.redis.db; }));
  f.push_back(
      duration<S>("redis.connect_timeout", 1ms, 1min, [](auto& s) -> auto& { return s.redis.connect_timeout; }));
  f.push_back(
      duration<S>("redis.command_timeout", 1ms, 1min, [](auto& s) -> auto& { return s.redis.command_timeout; }));
  f.push_back(number<S>("redis.pool_size", 1, 64, [](auto& s) -> auto& { return s.redis.pool_size; }));
  f.push_back(duration<S>("redis.memory_ttl", 0ms, 1min, [](auto& s) -> auto& { return s.redis.memory_ttl; }));
}

template <class Owner>
void add_login_fields(std::vector<Field<Owner>>& f) {
  f.push_back(text<Owner>("username", "a name", [](auto& o) -> auto& { return o.username; }));
  f.push_back(text<Owner>("password", "a password", [](auto& o) -> auto& { return o.password; }));
  f.back().secret = true;
  f.back().show = [](const Owner& o) { return in_quotes(o.password.empty() ? "" : "***"); };
  f.push_back(text<Owner>("password_file", "a file", [](auto& o) -> auto& { return o.password_file; }));
  f.push_back(text<Owner>("docker_config", "docker's config.json", [](auto& o) -> auto& { return o.docker_config; }));
  f.push_back(text<Owner>("credential_helper", "the name of a credential helper, or the path of its program",
                          [](auto& o) -> auto& { return o.credential_helper; }));
  f.push_back({"credential_lifetime", "a duration from 0s (asked each time) to 8760h",
               [](Owner& o, std::string_view value) {
                 const Result<std::chrono::nanoseconds> parsed = parse_duration(value);
                 if (!parsed || *parsed < 0ns || *parsed > 365 * 24h) return false;
                 o.credential_lifetime = std::chrono::ceil<Duration>(*parsed);
                 return true;
               },
               [](const Owner& o) { return o.credential_lifetime ? exact_duration(*o.credential_lifetime) : "\"\""; }});
}

std::vector<Field<CredentialRule>> make_credential_fields() {
  using R = CredentialRule;
  std::vector<Field<R>> f;
  f.push_back(list<R>("repositories", "a list of patterns such as team/* or team/**", is_repository_pattern,
                      [](auto& r) -> auto& { return r.repositories; }));
  f.push_back(flag<R>("anonymous", [](auto& r) -> auto& { return r.anonymous; }));
  add_login_fields(f);
  return f;
}

std::vector<Field<Settings>> make_settings_fields() {
  using S = Settings;
  std::vector<Field<S>> f;
  f.push_back(endpoint("server.listen", [](auto& s) -> auto& { return s.server.listen; }));
  f.push_back(number<S>(
      "server.threads", 0, 1024, [](auto& s) -> auto& { return s.server.threads; }, " (0: one for each processor)"));
  f.push_back(
      duration<S>("server.header_timeout", 100ms, 1h, [](auto& s) -> auto& { return s.server.header_timeout; }));
  f.push_back(duration<S>("server.idle_timeout", 100ms, 24h, [](auto& s) -> auto& { return s.server.idle_timeout; }));
  f.push_back(duration<S>("server.send_stall_timeout", 100ms, 24h,
                          [](auto& s) -> auto& { return s.server.send_stall_timeout; }));
  f.push_back(
      bytes<S>("server.max_header_bytes", kKiB, kMiB, [](auto& s) -> auto& { return s.server.max_header_bytes; }));
  f.push_back(
      number<S>("server.max_connections", 1, 1'000'000, [](auto& s) -> auto& { return s.server.max_connections; }));
  f.push_back(duration<S>("server.drain_delay", 0ms, 1h, [](auto& s) -> auto& { return s.server.drain_delay; }));
  f.push_back(duration<S>("server.drain_timeout", 0ms, 24h, [](auto& s) -> auto& { return s.server.drain_timeout; }));
  f.push_back(host_pattern());
  f.push_back(instance_id());
  add_entry_fields(f);
  f.push_back(endpoint("admin.listen", [](auto& s) -> auto& { return s.admin.listen; }));
  f.push_back(list<S>(
      "admin.hosts", "a list of host names without a port, or *",
      [](std::string_view host) { return host == "*" || is_host(host); },
      [](auto& s) -> auto& { return s.admin.hosts; }));
  f.push_back(text<S>("data", "a directory", [](auto& s) -> auto& { return s.data; }));
  f.push_back(choice<S>("log.level", kLevels, [](auto& s) -> auto& { return s.log.level; }));
  f.push_back(choice<S>("log.format", kFormats, [](auto& s) -> auto& { return s.log.format; }));
  f.push_back(flag<S>("log.access.enabled", [](auto& s) -> auto& { return s.log.access.enabled; }));
  f.push_back(choice<S>("log.access.format", kFormats, [](auto& s) -> auto& { return s.log.access.format; }));
  f.push_back(text<S>("log.access.file", "a file, or - for standard output",
                      [](auto& s) -> auto& { return s.log.access.file; }));
  f.push_back(window());
  f.push_back(bytes<S>("fill.memory", kMiB, kGiB * 1024, [](auto& s) -> auto& { return s.fill.memory_bytes; }));
  f.push_back(choice<S>("fill.abandoned", kAbandoned, [](auto& s) -> auto& { return s.fill.abandoned; }));
  f.push_back(choice<S>("fill.ranges", kRanges, [](auto& s) -> auto& { return s.fill.ranges; }));
  f.push_back(range_limit());
  f.push_back(choice<S>("fill.prefetch", kPrefetches, [](auto& s) -> auto& { return s.fill.prefetch; }));
  f.push_back(number<S>("fill.prefetch_parallel", 1, 1000, [](auto& s) -> auto& { return s.fill.prefetch_parallel; }));
  f.push_back(
      bytes<S>("fill.prefetch_bytes", kMiB, kGiB * 1024, [](auto& s) -> auto& { return s.fill.prefetch_bytes; }));
  f.push_back(choice<S>("descriptors.cache", kDescriptorCaches, [](auto& s) -> auto& { return s.descriptors.cache; }));
  f.push_back(number<S>(
      "descriptors.size", 0, 100'000'000, [](auto& s) -> auto& { return s.descriptors.size; }, " (0: unlimited)"));
  f.push_back(duration<S>("descriptors.ttl", 0ms, 10 * 365 * 24h, [](auto& s) -> auto& { return s.descriptors.ttl; }));
  f.push_back(
      duration<S>("descriptors.negative_ttl", 0ms, 24h, [](auto& s) -> auto& { return s.descriptors.negative_ttl; }));
  add_redis_fields(f);
  f.push_back(duration<S>("tags.ttl", 0ms, 365 * 24h, [](auto& s) -> auto& { return s.tags.ttl; }));
  f.push_back(duration<S>(
      "tags.stale_for", 0ms, 10 * 365 * 24h, [](auto& s) -> auto& { return s.tags.stale_for; }, " (0: for ever)"));
  f.push_back(bytes<S>("manifests.memory_cache", 0, kGiB * 1024,
                       [](auto& s) -> auto& { return s.manifests.memory_cache_bytes; }));
  f.push_back(flag<S>("store.fsync", [](auto& s) -> auto& { return s.store.fsync; }));
  f.push_back(file_mode());
  f.push_back(size_limit("store.max_size", 16 * kMiB, [](auto& s) -> auto& { return s.store.max_size; }));
  f.push_back(size_limit("store.min_free", 1, [](auto& s) -> auto& { return s.store.min_free; }));
  f.push_back(duration<S>(
      "store.max_age", 0ms, 10 * 365 * 24h, [](auto& s) -> auto& { return s.store.max_age; }, " (0: for ever)"));
  f.push_back(duration<S>(
      "store.part_max_age", 0ms, 365 * 24h, [](auto& s) -> auto& { return s.store.part_max_age; },
      " (0: none is kept)"));
  f.push_back(duration<S>(
      "store.quarantine_max_age", 0ms, 10 * 365 * 24h, [](auto& s) -> auto& { return s.store.quarantine_max_age; },
      " (0: they are removed)"));
  f.push_back(
      bytes<S>("store.scrub.rate", 0, kGiB * 1024, [](auto& s) -> auto& { return s.store.scrub_rate; }, " (0: off)"));
  f.push_back(
      duration<S>("store.scrub.interval", 1min, 365 * 24h, [](auto& s) -> auto& { return s.store.scrub_interval; }));
  f.push_back(flag<S>("store.delete.enabled", [](auto& s) -> auto& { return s.store.delete_enabled; }));
  f.push_back(number<S>("store.threads", 1, 256, [](auto& s) -> auto& { return s.store.threads; }));
  f.push_back(proxy<S>("proxy.https", [](auto& s) -> auto& { return s.proxy.https; }));
  f.push_back(proxy<S>("proxy.http", [](auto& s) -> auto& { return s.proxy.http; }));
  f.push_back(list<S>("proxy.no_proxy", "a list of hosts, domains and networks, as in NO_PROXY", is_no_proxy,
                      [](auto& s) -> auto& { return s.proxy.no_proxy; }));
  f.push_back(flag<S>("offline", [](auto& s) -> auto& { return s.offline; }));
  f.push_back(
      text<S>("default_upstream", "the name of an upstream", [](auto& s) -> auto& { return s.default_upstream; }));
  return f;
}

std::vector<Field<Upstream>> make_upstream_fields() {
  using U = Upstream;
  std::vector<Field<U>> f;
  f.push_back(url());
  f.push_back(list<U>("endpoints",
                      "a list of URLs such as https://mirror.example.com, without user, query and fragment", is_url,
                      [](auto& u) -> auto& { return u.endpoints; }));
  f.back().secret = true;
  add_login_fields(f);
  f.push_back(text<U>("ca_file", "a PEM file", [](auto& u) -> auto& { return u.ca_file; }));
  f.push_back(text<U>("cert_file", "a PEM file", [](auto& u) -> auto& { return u.cert_file; }));
  f.push_back(text<U>("key_file", "a PEM file", [](auto& u) -> auto& { return u.key_file; }));
  f.push_back(proxy<U>("proxy", [](auto& u) -> auto& { return u.proxy; }));
  f.push_back(list<U>("realm_hosts", "a list of host names, without scheme and port", is_host,
                      [](auto& u) -> auto& { return u.realm_hosts; }));
  f.push_back(
      list<U>("redirect_networks", kNetworks, is_network, [](auto& u) -> auto& { return u.redirect_networks; }));
  f.push_back(flag<U>("http_realm", [](auto& u) -> auto& { return u.http_realm; }));
  f.push_back(flag<U>("http_redirects", [](auto& u) -> auto& { return u.http_redirects; }));
  f.push_back(flag<U>("library_prefix", [](auto& u) -> auto& { return u.library_prefix; }));
  f.push_back(duration<U>("connect_timeout", 10ms, 10min, [](auto& u) -> auto& { return u.connect_timeout; }));
  f.push_back(duration<U>("headers_timeout", 10ms, 1h, [](auto& u) -> auto& { return u.headers_timeout; }));
  f.push_back(duration<U>("request_timeout", 10ms, 1h, [](auto& u) -> auto& { return u.request_timeout; }));
  f.push_back(duration<U>("endpoint_timeout", 10ms, 1h, [](auto& u) -> auto& { return u.endpoint_timeout; }));
  f.push_back(duration<U>("first_byte_timeout", 10ms, 24h, [](auto& u) -> auto& { return u.first_byte_timeout; }));
  f.push_back(duration<U>("stall_timeout", 10ms, 1h, [](auto& u) -> auto& { return u.stall_timeout; }));
  f.push_back(number<U>("retries", 0, 10, [](auto& u) -> auto& { return u.retries; }));
  f.push_back(number<U>("max_connections", 1, 10'000, [](auto& u) -> auto& { return u.max_connections; }));
  f.push_back(number<U>(
      "requests_per_second", 0, 1'000'000, [](auto& u) -> auto& { return u.requests_per_second; }, " (0: no limit)"));
  f.push_back(flag<U>("offline", [](auto& u) -> auto& { return u.offline; }));
  f.push_back(choice<U>("access", kAccess, [](auto& u) -> auto& { return u.access; }));
  f.push_back(duration<U>("grant_ttl", 0ms, 1h, [](auto& u) -> auto& { return u.grant_ttl; }));
  f.push_back(own_prefetch());
  return f;
}

}  // namespace

const std::vector<Field<Settings>>& settings_fields() {
  static const std::vector<Field<Settings>> fields = make_settings_fields();
  return fields;
}

const std::vector<Field<Upstream>>& upstream_fields() {
  static const std::vector<Field<Upstream>> fields = make_upstream_fields();
  return fields;
}

const std::vector<Field<CredentialRule>>& credential_fields() {
  static const std::vector<Field<CredentialRule>> fields = make_credential_fields();
  return fields;
}

std::string in_quotes(std::string_view text) {
  std::string out = "\"";
  log::append_json_escaped(out, text);
  return out + '"';
}

std::string in_quotes_masked(std::string_view value) { return in_quotes(mask_userinfo_of(value)); }

}  // namespace sluice::config

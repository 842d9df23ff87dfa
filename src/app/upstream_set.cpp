#include "app/upstream_set.hpp"

#include <algorithm>
#include <fstream>
#include <utility>

#include <fmt/format.h>

#include "app/upstream_params.hpp"
#include "pull/metrics.hpp"
#include "runtime/file_stamp.hpp"
#include "upstream/http_registry.hpp"
#include "upstream/offline_registry.hpp"

namespace sluice::app {
namespace {

// Back-pressure must reach upstream: what the kernel takes on our behalf counts as well as the window. Where it would
// grow its receive buffer beyond the window (net.ipv4.tcp_rmem), the buffer is fixed at about the window, unless the
// system allows so little (net.core.rmem_max) that a distant upstream would be slowed down.
std::size_t receive_buffer(std::uint64_t window_bytes) {
  constexpr std::uint64_t kLeastBytes = 1 << 20;
  std::uint64_t grown = 0;
  std::uint64_t allowed = 0;
  std::ifstream("/proc/sys/net/ipv4/tcp_rmem") >> grown >> grown >> grown;
  std::ifstream("/proc/sys/net/core/rmem_max") >> allowed;
  if (window_bytes == 0 || grown <= window_bytes || allowed < kLeastBytes) return 0;
  // The kernel doubles what it is told, for its own overhead.
  return static_cast<std::size_t>(std::clamp(window_bytes / 2, kLeastBytes, allowed));
}

access::Upstreams::Options upstream_options(const config::Upstream& from, config::Prefetch prefetch) {
  access::Upstreams::Options options;
  options.library_prefix = from.library_prefix;
  options.request_timeout = from.request_timeout;
  if (from.access == config::Access::passthrough) options.passthrough = access::Passthrough{from.grant_ttl};
  switch (from.prefetch.value_or(prefetch)) {
    case config::Prefetch::none: options.prefetch = access::Prefetch::none; break;
    case config::Prefetch::config: options.prefetch = access::Prefetch::config; break;
    case config::Prefetch::layers: options.prefetch = access::Prefetch::layers; break;
  }
  return options;
}

// Where an operator looks when upstream refuses our login.
std::string login_setting(const std::string& name, const config::Upstream& from) {
  std::string out;
  const auto add = [&out, &name](bool is_set, std::string_view key) {
    if (is_set) out += fmt::format("{}upstreams.{}.{}", out.empty() ? "" : " and ", name, key);
  };
  add(!from.username.empty(), from.password_file.empty() ? "username with password" : "username with password_file");
  add(!from.docker_config.empty(), "docker_config");
  add(!from.credential_helper.empty(), "credential_helper");
  add(!from.credentials.empty(), "credentials");
  add(!from.cert_file.empty(), "cert_file");
  return out.empty() ? "upstreams." + name : out;
}

std::string stamp_of(const config::Upstream& from) {
  std::string out =
      runtime::file_stamp(from.ca_file) + runtime::file_stamp(from.cert_file) + runtime::file_stamp(from.key_file);
  for (const std::filesystem::path& file : secret_files(from)) out += runtime::file_stamp(file);
  return out;
}

}  // namespace

UpstreamSet::UpstreamSet(const Parts& parts, std::uint64_t window_bytes)
    : parts_(parts), receive_buffer_bytes_(receive_buffer(window_bytes)) {}

UpstreamSet::Made UpstreamSet::make(const config::Settings& settings, const std::string& name,
                                    const config::Upstream& from, std::string stamp) const {
  Made out{from,
           settings.proxy,
           settings.offline || from.offline,
           std::move(stamp),
           rights_of(name, from),
           nullptr,
           nullptr,
           std::make_shared<const access::UpstreamMetrics>(parts_.registry, name)};
  if (out.offline) {
    out.registry = std::make_shared<upstream::OfflineRegistry>(name);
    return out;
  }
  upstream::HttpRegistry::Params params =
      registry_params(settings, name, from, receive_buffer_bytes_, parts_.clock, parts_.registry);
  params.pseudonym = parts_.pseudonym;
  params.background = &parts_.background;
  params.own_listeners = parts_.own_listeners;
  upstream::WatchedRegistry::Params told;
  told.on_outage = [&watch = parts_.watch, name](const std::string& why) { watch.tell(name, why); };
  told.on_login = [&watch = parts_.watch, name](const std::string& why) { watch.tell_login(name, why); };
  told.login_setting = login_setting(name, from);
  out.watched = std::make_shared<upstream::WatchedRegistry>(
      std::make_unique<upstream::HttpRegistry>(std::move(params), parts_.client, parts_.clock, parts_.registry),
      parts_.clock, parts_.registry, std::move(told));
  out.registry = out.watched;
  return out;
}

metrics::Gauge& UpstreamSet::offline_gauge(const std::string& name) const {
  return parts_.registry.gauge("sluice_upstream_offline",
                               "1 while the configuration says not to ask upstream (offline)", {{"upstream", name}});
}

UpstreamSet::Prepared UpstreamSet::prepare(const config::Settings& settings) const {
  Prepared out;
  for (const auto& [name, from] : settings.upstreams) {
    // Before they are read: a change in between is found the next time.
    std::string stamp = stamp_of(from);
    const auto at = now_.find(name);
    const bool configured_alike = at != now_.end() && at->second.from == from && at->second.proxy == settings.proxy &&
                                  at->second.offline == (settings.offline || from.offline);
    if (configured_alike && at->second.stamp == stamp) {
      out.emplace(name, at->second);
      continue;
    }
    Made made = make(settings, name, from, std::move(stamp));
    // A file that is just being replaced says nothing yet: the next look does.
    const bool unknown = configured_alike && at->second.rights.complete && !made.rights.complete;
    if (unknown) made = at->second;
    out.emplace(name, std::move(made));
  }
  return out;
}

void UpstreamSet::apply(Prepared prepared, const config::Settings& settings) {
  access::Upstreams::Table table;
  for (const auto& [name, made] : prepared) {
    table.emplace(access::Upstreams::key(name),
                  std::make_shared<const access::Upstreams::Upstream>(
                      made.registry, upstream_options(made.from, settings.fill.prefetch), made.metrics));
  }
  parts_.upstreams.replace(std::move(table));
  for (const auto& [name, made] : now_) {
    const auto at = prepared.find(name);
    if (at != prepared.end() && at->second.registry == made.registry) continue;
    if (made.watched) made.watched->show(false);
    parts_.watch.tell(name, "");
    parts_.watch.tell_login(name, "");
    offline_gauge(name).set(0);
  }
  for (const auto& [name, made] : prepared) {
    const auto at = now_.find(name);
    const bool is_new = at == now_.end() || at->second.registry != made.registry;
    if (is_new && made.offline) parts_.watch.tell(name, "is not asked (offline)");
    if (is_new) offline_gauge(name).set(made.offline ? 1 : 0);
    if (is_new && made.watched) made.watched->show(true);
  }
  now_ = std::move(prepared);
}

pull::RightsLedger::Claims UpstreamSet::claims() const {
  pull::RightsLedger::Claims out;
  for (const auto& [name, made] : now_) out.emplace(name, made.rights.claim);
  return out;
}

bool UpstreamSet::files_changed() const {
  return std::any_of(now_.begin(), now_.end(),
                     [](const auto& entry) { return stamp_of(entry.second.from) != entry.second.stamp; });
}

}  // namespace sluice::app

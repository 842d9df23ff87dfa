#include "app/reload.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

namespace sluice::app {
namespace {

// With a dot at its end: all below it.
constexpr std::array<std::string_view, 13> kReloadable{"server.allow",
                                                       "server.deny",
                                                       "server.trusted_proxies",
                                                       "server.proxy_protocol",
                                                       "server.client.",
                                                       "server.tls.",
                                                       "auth.",
                                                       "repositories.",
                                                       "fill.prefetch",
                                                       "log.level",
                                                       "offline",
                                                       "proxy.",
                                                       "upstreams."};

}  // namespace

bool is_reloadable(std::string_view key) noexcept {
  return std::any_of(kReloadable.begin(), kReloadable.end(), [key](std::string_view known) {
    return known.ends_with('.') ? key.starts_with(known) : key == known;
  });
}

Reloaded compare(const config::Settings& started, const config::Settings& now, const config::Settings& loaded) {
  Reloaded out;
  for (std::string& key : config::changed_keys(now, loaded)) {
    if (is_reloadable(key)) out.changed.push_back(std::move(key));
  }
  for (std::string& key : config::changed_keys(started, loaded)) {
    if (!is_reloadable(key)) out.restart.push_back(std::move(key));
  }
  return out;
}

bool same_names_in_redis(const config::Settings& started, const config::Settings& loaded) {
  const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  return started.descriptors.cache != config::DescriptorCache::redis ||
         std::equal(started.upstreams.begin(), started.upstreams.end(), loaded.upstreams.begin(),
                    loaded.upstreams.end(), same_name);
}

std::string to_json(const Reloaded& reloaded) {
  return nlohmann::ordered_json{{"changed", reloaded.changed}, {"restart", reloaded.restart}}.dump() + "\n";
}

std::string describe(const Reloaded& reloaded) {
  std::string out = reloaded.changed.empty() ? "nothing is different"
                                             : fmt::format("in force: {}", fmt::join(reloaded.changed, ", "));
  if (!reloaded.restart.empty()) {
    out += fmt::format("; only after a restart: {}", fmt::join(reloaded.restart, ", "));
  }
  return out;
}

}  // namespace sluice::app

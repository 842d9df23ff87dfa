// UpstreamSet: the upstreams that the settings name, as the proxy uses them. Another configuration gets those of before
// where nothing about them has changed, with their connections, tokens and breakers.
//
// Owned by the composition root. Threads: one at a time; it reads files. What is replaced lives on with the downloads
// that use it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "access/upstreams.hpp"
#include "app/upstream_rights.hpp"
#include "app/upstream_watch.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "config/settings.hpp"
#include "http/client.hpp"
#include "runtime/task_group.hpp"
#include "upstream/watched_registry.hpp"

namespace sluice::app {

class UpstreamSet {
 public:
  // All outlive it, and what it made.
  struct Parts {
    http::Client& client;
    Clock& clock;
    metrics::Registry& registry;
    UpstreamWatch& watch;
    access::Upstreams& upstreams;
    std::shared_ptr<const http::OwnListeners> own_listeners;
    runtime::TaskGroup& background;  // HttpRegistry::Params::background
    std::string pseudonym = {};      // what Via calls us
  };
  // One of them, and what it was made of.
  struct Made {
    config::Upstream from;
    config::Proxy proxy;
    bool offline = false;
    std::string stamp;  // of its files: certificates and secrets
    UpstreamRights rights;
    std::shared_ptr<upstream::Registry> registry;
    std::shared_ptr<upstream::WatchedRegistry> watched;  // the same, where it is asked
    std::shared_ptr<const access::UpstreamMetrics> metrics;
  };
  using Prepared = std::map<std::string, Made>;

  // `window_bytes`: fill.window, as it was at the start.
  UpstreamSet(const Parts& parts, std::uint64_t window_bytes);

  // What the settings name, new or as it is. Nothing changes yet. Throws std::runtime_error, with the key, where a file
  // or a value is of no use.
  [[nodiscard]] Prepared prepare(const config::Settings& settings) const;
  // `settings` of prepare.
  void apply(Prepared prepared, const config::Settings& settings);

  // What the rights of those in force hang on.
  [[nodiscard]] pull::RightsLedger::Claims claims() const;
  // A file of theirs is another one than when it was read. Looks at the disk.
  [[nodiscard]] bool files_changed() const;

 private:
  [[nodiscard]] Made make(const config::Settings& settings, const std::string& name, const config::Upstream& from,
                          std::string stamp) const;
  metrics::Gauge& offline_gauge(const std::string& name) const;

  const Parts parts_;
  const std::size_t receive_buffer_bytes_;
  Prepared now_;
};

}  // namespace sluice::app

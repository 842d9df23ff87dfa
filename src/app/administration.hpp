// The admin API put together: what it needs of the store, and what the proxy has to forget when something is taken out.
//
// Owned by the composition root. stop() before the store is stopped; destroyed after the admin server.
#pragma once

#include <functional>
#include <string>

#include "admin/admin_api.hpp"
#include "admin/inventory.hpp"
#include "admin/overview.hpp"
#include "admin/recent_requests.hpp"
#include "admin/verify_job.hpp"
#include "config/settings.hpp"
#include "pull/removal.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"
#include "streamcache/file_cache.hpp"

namespace sluice::app {

// What requests to the admin listener may call it.
admin::OwnHosts own_hosts(const config::Admin& settings);

class Administration {
 public:
  // All must outlive it.
  struct Parts {
    store::BlobStore& store;
    store::Parts& parts;
    pull::Removal& removal;
    const streamcache::FileCache& fills;
    runtime::LoopPool& loops;  // the proxy's
    runtime::TaskGroup& group;
    runtime::DiskPool& pool;
    runtime::Filesystem& filesystem;
    const Clock& clock;
    const access::Upstreams& upstreams;
    std::function<runtime::Task<Result<std::string>>()> reload;
    metrics::Registry& registry;
    const admin::Readiness& readiness;
    const admin::RecentRequests& recent;
  };

  Administration(const config::Settings& settings, const Parts& parts);

  [[nodiscard]] admin::AdminApi& api() noexcept { return api_; }
  [[nodiscard]] admin::Overview& overview() noexcept { return overview_; }
  // Ends a verification that runs.
  void stop() { verify_.stop(); }

 private:
  admin::Inventory inventory_;
  admin::VerifyJob verify_;
  admin::Overview overview_;
  admin::AdminApi api_;
};

}  // namespace sluice::app

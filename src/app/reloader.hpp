// Reloader: puts another configuration in force without a restart, all of what may change so or nothing; and follows
// the files of certificates and secrets that the one in force names.
//
//   state     reload(), follow_files()
//   closed    refuse with shutting_down; do nothing
//   open      read and compare on the Reloader's own thread, and change everything while the loops stand still
//
// Threads: all functions may be called from any thread; the tasks are awaited on loops, which do not wait for them.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "access/upstreams.hpp"
#include "app/composition.hpp"
#include "app/front_door.hpp"
#include "app/reload.hpp"
#include "app/reload_metrics.hpp"
#include "app/upstream_set.hpp"
#include "base/clock.hpp"
#include "config/settings.hpp"
#include "pull/rights_ledger.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"

namespace sluice::app {

class Reloader {
 public:
  // All outlive it.
  struct Parts {
    const Clock& clock;
    metrics::Registry& registry;
    runtime::LoopPool& loops;
    access::Upstreams& upstreams;
    UpstreamSet& upstream_set;
    pull::RightsLedger& rights;
    FrontDoor& door;
  };

  // `started`, which outlives it: what the process was started with, and what is in force.
  Reloader(const config::Settings& started, LoadAgain load_again, const Parts& parts);

  // From now on it is open; `server` is the one that clients reach.
  void open(http::Server& server) { server_ = &server; }
  void close() { server_ = nullptr; }
  // Ends its thread, after what that is doing.
  void stop() { thread_.stop(); }

  // Takes back what was learnt with other rights than those of the upstreams that are in force. Before the loops run.
  void settle_rights() { parts_.upstreams.set_terms(parts_.rights.settle(parts_.upstream_set.claims())); }

  // Reads the configuration again. How it went stands in the log, too. Errors: config_invalid, shutting_down; the old
  // configuration stays in force then.
  runtime::Task<Result<Reloaded>> reload();
  // Makes the upstreams anew whose files are other ones than when they were read.
  runtime::Task<void> follow_files();

 private:
  Result<Reloaded> reload_now();
  Result<Reloaded> put_in_force(const config::Settings& loaded, http::Server& server);
  void follow_files_now();
  Result<void> exchange(UpstreamSet::Prepared upstreams, const config::Settings& settings,
                        const std::function<void()>& also);

  const config::Settings& started_;
  const LoadAgain load_again_;
  const Parts parts_;
  config::Settings now_;  // in force; thread_ alone
  ReloadMetrics metrics_;
  std::atomic<http::Server*> server_{nullptr};
  runtime::DiskPool thread_{1};
};

}  // namespace sluice::app

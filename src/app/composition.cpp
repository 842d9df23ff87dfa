#include "app/composition.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>

#include <fmt/format.h>

#include "admin/admin_handler.hpp"
#include "admin/readiness.hpp"
#include "admin/recent_requests.hpp"
#include "api/api.hpp"
#include "api/via.hpp"
#include "app/activation.hpp"
#include "app/administration.hpp"
#include "app/component_params.hpp"
#include "app/exit_status.hpp"
#include "app/front_door.hpp"
#include "app/hints.hpp"
#include "app/loop_watch.hpp"
#include "app/patiently.hpp"
#include "app/reload.hpp"
#include "app/reloader.hpp"
#include "app/service_manager.hpp"
#include "app/signals.hpp"
#include "app/upstream_set.hpp"
#include "app/upstream_watch.hpp"
#include "app/version.hpp"
#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/metrics.hpp"
#include "base/units.hpp"
#include "config/load.hpp"
#include "http/client.hpp"
#include "http/server.hpp"
#include "pull/removal.hpp"
#include "pull/rights_ledger.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/every.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/loop.hpp"
#include "runtime/task_group.hpp"
#include "store/blob_store.hpp"
#include "store/parts.hpp"
#include "streamcache/file_cache.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;

// What cancelled tasks get to end in, once they have been told to.
constexpr auto kCancelTimeout = 10s;

runtime::Task<void> flush_access_log(api::AccessLog& log) {
  log.flush();
  co_return;
}

admin::Noted noted(const api::AccessRecord& record) {
  return {record.client, record.method, record.upstream, record.repository, record.reference,     name(record.cache),
          record.status, record.bytes,  record.complete, record.first_byte, record.upstream_wait, record.total};
}

runtime::Task<void> sample(admin::Overview& overview) {
  overview.sample();
  co_return;
}

runtime::Task<Result<std::string>> reload_for_admin(Reloader& reloader) {
  const Result<Reloaded> reloaded = co_await reloader.reload();
  if (!reloaded) co_return reloaded.error();
  co_return to_json(*reloaded);
}

runtime::Task<void> reload_for_signal(Reloader& reloader) {
  const Result<Reloaded> reloaded = co_await reloader.reload();
  static_cast<void>(reloaded);  // the log says how it went
}

// What is left would use what is about to be destroyed. All that matters is on the disk or can be fetched again.
[[noreturn]] void give_up(std::string_view why) {
  log::error("app", fmt::format("{}; exiting without waiting for them", why));
  std::_Exit(kExitFailure);
}

runtime::Task<void> expire_parts(store::Parts& parts, runtime::DiskPool& pool) {
  co_await runtime::offload(pool, [&parts] { return parts.expire(); });
}

runtime::Task<void> refresh_door(FrontDoor& door, http::Server& server, runtime::DiskPool& pool) {
  co_await runtime::offload(pool, [&door, &server] { door.refresh(server); });
}

// The whole program. Members are destroyed in the reverse order, so what is used stands above who uses it.
class Application {
 public:
  Application(const config::Settings& settings, LoadAgain load_again, Activation activation);

  int run();

 private:
  Result<void> start();
  void keep_up(std::string name, std::chrono::nanoseconds interval, std::function<runtime::Task<void>()> body);
  void stop();
  void end_tasks();

  void announce_drain(const std::atomic<bool>& stop_now);
  void hand_over();

  const config::Settings& settings_;  // with which it was started
  Activation activation_;
  SystemClock clock_;
  metrics::Registry registry_;
  admin::Readiness readiness_;
  const admin::Readiness::Condition store_ready_ = readiness_.add("store");
  const admin::Readiness::Condition catalog_ready_ = readiness_.add("catalog");
  const admin::Readiness::Condition listener_ready_ = readiness_.add("listener");
  UpstreamWatch upstream_watch_{readiness_};
  const std::shared_ptr<http::OwnListeners> own_listeners_ = std::make_shared<http::OwnListeners>();

  runtime::PosixFilesystem filesystem_{settings_.store.mode};
  runtime::DiskPool pool_;
  const ServiceManager service_manager_{config::process_environment()};
  runtime::LoopPool loops_;
  LoopWatch loop_watch_{service_manager_, loops_.size(), registry_};
  runtime::LoopPool admin_loops_{1};
  runtime::TaskGroup fills_{"fill"};
  runtime::TaskGroup upkeep_{"upkeep"};
  runtime::TaskGroup watch_{"watch"};  // loop_watch_, which goes on while the program drains

  store::BlobStore store_;
  store::Parts parts_;
  store::CatalogDescriptorService catalog_{store_};
  descriptors::RightsMarks marks_;
  const std::unique_ptr<descriptors::BlobDescriptorCacheProvider> front_;
  http::Client client_;
  const std::string pseudonym_;
  access::Upstreams upstreams_;
  UpstreamSet upstream_set_;
  const pull::Metrics metrics_{registry_};
  access::BlobAccess access_;
  streamcache::FileCache cache_;
  pull::BlobService blobs_;
  pull::ManifestService manifests_;
  pull::RightsLedger rights_{{store_, access_, manifests_, marks_}};
  pull::Prefetcher prefetcher_;
  pull::Listings listings_;
  pull::Referrers referrers_;
  access::AccessGate gate_;
  FrontDoor door_;
  Reloader reloader_;
  admin::RecentRequests recent_{clock_};
  std::unique_ptr<api::AccessLog> access_log_;
  std::unique_ptr<api::Api> api_;
  pull::Removal removal_{{access_, blobs_, manifests_, store_, parts_, pool_}};
  Administration administration_;
  admin::AdminHandler admin_handler_;
  std::unique_ptr<http::Server> server_;
  std::unique_ptr<http::Server> admin_server_;
};

Application::Application(const config::Settings& settings, LoadAgain load_again, Activation activation)
    : settings_(settings),
      activation_(std::move(activation)),
      pool_(settings.store.threads),
      loops_(settings.server.threads),
      store_(store_params(settings), filesystem_, pool_, clock_, registry_),
      parts_({.root = settings.data,
              .max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.part_max_age),
              .ledger = &store_.ledger(),
              .sync = settings.store.fsync},
             filesystem_, clock_, registry_),
      front_(make_front(settings, marks_, loops_, clock_, registry_)),
      client_({.loops = loops_.size()}),
      pseudonym_(settings.server.instance_id.empty() ? api::random_pseudonym() : settings.server.instance_id),
      upstreams_({settings.default_upstream, settings.server.host_pattern}),
      upstream_set_({client_, clock_, registry_, upstream_watch_, upstreams_, own_listeners_, upkeep_, pseudonym_},
                    settings.fill.window_bytes),
      access_({.front_name = front_name(settings.descriptors.cache),
               .negative = {.ttl = settings.descriptors.negative_ttl},
               .ttl = settings.descriptors.ttl},
              *front_, catalog_, clock_, fills_, registry_),
      cache_(fill_params(settings, store_), filesystem_, pool_, clock_, fills_, registry_),
      blobs_(blob_params(settings.fill,
                         [this](const std::string& why) {
                           why.empty() ? store_ready_.met() : store_ready_.met_but("new blobs are not stored: " + why);
                         }),
             access_, store_, parts_, cache_, pool_, filesystem_, clock_, fills_, metrics_),
      manifests_({.memory_bytes = settings.manifests.memory_cache_bytes,
                  .tag_ttl = settings.tags.ttl,
                  .stale_for = settings.tags.stale_for,
                  .negative = {.ttl = settings.descriptors.negative_ttl}},
                 access_, store_, pool_, clock_, fills_, metrics_),
      prefetcher_({.parallel = settings.fill.prefetch_parallel, .bytes = settings.fill.prefetch_bytes}, blobs_, loops_,
                  pool_, clock_, fills_, registry_),
      listings_({.tag_ttl = settings.tags.ttl,
                 .stale_for = settings.tags.stale_for,
                 .negative = {.ttl = settings.descriptors.negative_ttl}},
                upstreams_, store_, pool_, clock_, fills_),
      referrers_({.tag_ttl = settings.tags.ttl,
                  .empty_ttl = settings.descriptors.negative_ttl,
                  .stale_for = settings.tags.stale_for},
                 manifests_, store_, pool_, clock_, fills_),
      gate_({}, clock_, fills_, registry_),
      door_(clock_, fills_, registry_),
      reloader_(settings, std::move(load_again),
                {clock_, registry_, loops_, upstreams_, upstream_set_, rights_, door_}),
      administration_(settings,
                      {store_, parts_, removal_, cache_, loops_, fills_, pool_, filesystem_, clock_, upstreams_,
                       [this] { return reload_for_admin(reloader_); }, registry_, readiness_, recent_}),
      admin_handler_(registry_, readiness_, clock_, administration_.overview(),
                     {std::string(version()), &administration_.api(), own_hosts(settings.admin)}) {
  upstream_set_.apply(upstream_set_.prepare(settings), settings);
}

Result<void> Application::start() {
  const config::AccessLog& access = settings_.log.access;
  Result<std::unique_ptr<api::AccessLog>> access_log =
      api::AccessLog::open({.enabled = access.enabled,
                            .format = access.format,
                            .file = access.file,
                            .also = [this](const api::AccessRecord& record) { recent_.note(noted(record)); }});
  if (!access_log) return access_log.error().in("access log");
  access_log_ = std::move(*access_log);

  loops_.start();
  admin_loops_.start();
  // The admin listener first: whoever watches the start can ask how far it is.
  admin_server_ = std::make_unique<http::Server>(
      admin_loops_, admin_handler_,
      http::Server::Params{
          .name = "admin", .send_timeout = 20s, .max_connections = 1000, .own_listeners = own_listeners_},
      registry_);
  if (Result<void> listening = listen(*admin_server_, activation_.admin, settings_.admin.listen); !listening) {
    return listening.error().in("admin listener");
  }
  store_.set_on_evicted([this](const oci::Digest& digest) {
    blobs_.forget(digest);
    manifests_.forget(digest);
  });
  catalog_ready_.met();  // until the store says otherwise
  store_.set_on_trouble([this](const std::string& why) {
    why.empty() ? catalog_ready_.met() : catalog_ready_.met_but("what is learnt may be forgotten: " + why);
  });
  store_.set_give_up([this](std::uint64_t bytes, std::chrono::seconds idle) { return parts_.give_up(bytes, idle); });
  if (Result<void> opened = patiently([this] { return store_.start(); }); !opened) {
    Error error = opened.error().in(fmt::format("data directory {}", settings_.data.native()));
    const bool elsewhere = error.code != Errc::exists && error.code != Errc::no_space;
    if (elsewhere) error.message += "; --data DIR names another place";
    return error;
  }
  reloader_.settle_rights();
  // Parts whose upstream nobody knows are removed, as stored ones are.
  const bool unknown = rights_.found_nothing();
  parts_.start([this, unknown](const oci::Digest& digest) { return unknown || store_.find(digest).has_value(); });
  store_ready_.met();

  api_ = std::make_unique<api::Api>(api::Api::Parts{.upstreams = upstreams_,
                                                    .blobs = blobs_,
                                                    .manifests = manifests_,
                                                    .access_log = *access_log_,
                                                    .clock = clock_,
                                                    .removal = settings_.store.delete_enabled ? &removal_ : nullptr,
                                                    .listings = &listings_,
                                                    .referrers = &referrers_,
                                                    .logins = &door_.logins(),
                                                    .rules = &door_.rules(),
                                                    .gate = &gate_,
                                                    .prefetcher = &prefetcher_,
                                                    .pseudonym = pseudonym_},
                                    metrics_);
  server_ =
      std::make_unique<http::Server>(loops_, *api_, server_params(settings_.server, pool_, own_listeners_), registry_);
  Result<FrontDoor::Prepared> door = door_.prepare(settings_);
  if (!door) return door.error();
  door_.open(std::move(*door), *server_, false);
  if (Result<void> listening = listen(*server_, activation_.registry, settings_.server.listen); !listening) {
    return listening.error().in("registry listener");
  }
  listener_ready_.met();
  upkeep_.spawn(loops_.at(0).get_executor(), cache_.maintain());
  upkeep_.spawn(loops_.at(0).get_executor(), upstream_watch_.keep_asking(upstreams_));
  loop_watch_.start(loops_, admin_loops_.at(0), watch_);
  keep_up("parts", 1min, [this] { return expire_parts(parts_, pool_); });
  keep_up("fill", 5s, [this] { return blobs_.try_store(); });
  // Files are looked at often: whoever changes one waits for it.
  keep_up("entry", 1s, [this] { return refresh_door(door_, *server_, pool_); });
  keep_up("upstream files", 10s, [this] { return reloader_.follow_files(); });
  // What the access log has buffered reaches its file within a second.
  upkeep_.spawn(admin_loops_.at(0).get_executor(),
                runtime::every("access log", 1s, [this] { return flush_access_log(*access_log_); }));
  upkeep_.spawn(admin_loops_.at(0).get_executor(), runtime::every("history", admin::History::kInterval, [this] {
                  return sample(administration_.overview());
                }));
  reloader_.open(*server_);
  return {};
}

void Application::keep_up(std::string name, std::chrono::nanoseconds interval,
                          std::function<runtime::Task<void>()> body) {
  upkeep_.spawn(loops_.at(0).get_executor(), runtime::every(std::move(name), interval, std::move(body)));
}

// In an order in which nobody is left who could use what is gone: requests, then what they have started, then threads.
void Application::stop() {
  reloader_.close();
  if (server_) {
    server_->cancel();
    if (!server_->drain(kCancelTimeout)) give_up("connections did not end in time");
  }
  end_tasks();
  administration_.stop();
  door_.stop();
  // Its connections live on the loops, and end there.
  front_->close();
  if (admin_server_) {
    admin_server_->stop_accepting();
    admin_server_->cancel();
    admin_server_->drain(kCancelTimeout);
  }
  loops_.stop();
  admin_loops_.stop();
  pool_.stop();
  store_.stop();
  reloader_.stop();
  if (access_log_) access_log_->flush();
}

void Application::end_tasks() {
  cache_.stop();
  fills_.cancel();
  upkeep_.cancel();
  watch_.cancel();
  if (!fills_.wait_for(kCancelTimeout) || !upkeep_.wait_for(kCancelTimeout) || !watch_.wait_for(kCancelTimeout)) {
    give_up("background tasks did not end in time");
  }
}

// Requests are still taken, so that nobody finds the port closed who has not heard yet that another one has to be
// asked.
void Application::announce_drain(const std::atomic<bool>& stop_now) {
  listener_ready_.unmet("draining");
  const auto until = clock_.now() + settings_.server.drain_delay;
  while (clock_.now() < until && !stop_now) std::this_thread::sleep_for(50ms);
}

// From here on a successor may have the ports and the data directory: nothing of it is changed any more. Answers in
// flight go on, from files that are open and through memory.
void Application::hand_over() {
  reloader_.close();
  listener_ready_.unmet("stopping");
  server_->stop_accepting();
  admin_server_->stop_accepting();
  upkeep_.cancel();
  cache_.stop();
  administration_.stop();
  if (!upkeep_.wait_for(kCancelTimeout)) give_up("background tasks did not end in time");
  store_.close_for_writes();
}

int Application::run() {
  // Destroyed after stop(), when its loop runs no more.
  std::promise<void> drain_asked;
  std::atomic<bool> stop_now{false};
  Signals signals(admin_loops_.at(0), {[&] { drain_asked.set_value(); }, [&] { stop_now = true; },
                                       [this] {
                                         if (!access_log_) return;
                                         const Result<void> reopened = access_log_->reopen();
                                         if (!reopened) log::error("app", reopened.error().message);
                                         upkeep_.spawn(admin_loops_.at(0).get_executor(), reload_for_signal(reloader_));
                                       }});
  signals.start();
  if (const Result<void> started = start(); !started) {
    log::error("app", started.error().message);
    stop();
    return kExitFailure;
  }
  config::Endpoint listen = settings_.server.listen;
  listen.port = server_->port();
  config::Endpoint admin = settings_.admin.listen;
  admin.port = admin_server_->port();
  std::fputs(client_hints(settings_, listen, admin).c_str(), stderr);
  const std::string serving = fmt::format("serving on {}, {} blobs ({}) are stored", listen.to_string(),
                                          store_.entries(), format_bytes(store_.bytes()));
  log::info("app", serving);
  service_manager_.ready(serving);

  drain_asked.get_future().wait();
  log::info("app",
            fmt::format("stopping; running requests have {} to end", format_duration(settings_.server.drain_timeout)));
  service_manager_.stopping(settings_.server.drain_delay + settings_.server.drain_timeout + 2 * kCancelTimeout);
  announce_drain(stop_now);
  hand_over();
  const auto deadline = clock_.now() + settings_.server.drain_timeout;
  while (clock_.now() < deadline && !stop_now) {
    if (server_->drain(100ms)) break;
    access_log_->flush();
  }
  if (const std::size_t left = server_->connections(); left != 0) {
    log::warn("app", fmt::format("closing {} connections whose answers are not complete", left));
  }
  stop();
  log::info("app", "stopped");
  return kExitOk;
}

}  // namespace

int serve(const config::Settings& settings, LoadAgain load_again) {
  try {
    Result<Activation> activation = take_activation();
    if (!activation) {
      log::error("app", activation.error().message);
      return kExitFailure;
    }
    Application application(settings, std::move(load_again), std::move(*activation));
    return application.run();
  } catch (const std::exception& error) {
    log::error("app", error.what());
    return kExitFailure;
  }
}

}  // namespace sluice::app

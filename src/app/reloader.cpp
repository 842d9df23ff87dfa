#include "app/reloader.hpp"

#include <exception>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"
#include "runtime/pause.hpp"

namespace sluice::app {

Reloader::Reloader(const config::Settings& started, LoadAgain load_again, const Parts& parts)
    : started_(started), load_again_(std::move(load_again)), parts_(parts), now_(started), metrics_(parts.registry) {}

runtime::Task<Result<Reloaded>> Reloader::reload() {
  co_return co_await runtime::offload(thread_, [this] { return reload_now(); });
}

runtime::Task<void> Reloader::follow_files() {
  co_await runtime::offload(thread_, [this] { follow_files_now(); });
}

Result<Reloaded> Reloader::reload_now() {
  http::Server* const server = server_;
  if (server == nullptr) {
    log::warn("config", "not reloaded: sluice is starting or stopping");
    return Error(Errc::shutting_down, "sluice is starting or stopping");
  }
  Result<config::Settings> loaded = load_again_();
  Result<Reloaded> reloaded = loaded ? put_in_force(*loaded, *server) : Result<Reloaded>(loaded.error());
  if (!reloaded) {
    metrics_.refused();
    log::error("config",
               fmt::format("not reloaded, the old configuration stays in force: {}", reloaded.error().message));
    return reloaded;
  }
  metrics_.applied(parts_.clock.wall());
  for (const std::string& warning : loaded->warnings) log::warn("config", warning);
  now_ = std::move(*loaded);
  const std::string what = fmt::format("reloaded; {}", describe(*reloaded));
  reloaded->restart.empty() ? log::info("config", what) : log::warn("config", what);
  return reloaded;
}

Result<Reloaded> Reloader::put_in_force(const config::Settings& loaded, http::Server& server) {
  Reloaded out = compare(started_, now_, loaded);
  // Whoever is the default one must be there, under the name that counts until a restart.
  if (loaded.upstreams.find(started_.default_upstream) == loaded.upstreams.end()) {
    return Error(Errc::config_invalid,
                 fmt::format("upstreams: the default upstream {} was removed, which needs a restart",
                             started_.default_upstream));
  }
  if (!same_names_in_redis(started_, loaded)) {
    return Error(
        Errc::config_invalid,
        "upstreams: with descriptors.cache: redis, adding or removing an upstream needs a restart, because the "
        "names of keys in Redis depend on all of them");
  }
  try {
    Result<FrontDoor::Prepared> door = parts_.door.prepare(loaded);
    if (!door) return door.error();
    const Result<void> changed = exchange(parts_.upstream_set.prepare(loaded), loaded, [&] {
      parts_.door.open(std::move(*door), server, true);
      log::configure({loaded.log.level, started_.log.format});
    });
    if (!changed) return changed.error();
  } catch (const std::exception& error) {
    return Error(Errc::config_invalid, error.what());
  }
  return out;
}

void Reloader::follow_files_now() {
  if (server_ == nullptr || !parts_.upstream_set.files_changed()) return;
  try {
    const Result<void> changed = exchange(parts_.upstream_set.prepare(now_), now_, [] {});
    if (!changed) log::debug("config", changed.error().message);
  } catch (const std::exception& error) {
    // It is tried again in a while, and the next reload says it aloud.
    log::debug("config", error.what());
  }
}

// While the loops stand still, with whatever else changes at that moment.
Result<void> Reloader::exchange(UpstreamSet::Prepared upstreams, const config::Settings& settings,
                                const std::function<void()>& also) {
  return runtime::while_paused(parts_.loops, [&] {
    also();
    parts_.upstream_set.apply(std::move(upstreams), settings);
    settle_rights();
  });
}

}  // namespace sluice::app

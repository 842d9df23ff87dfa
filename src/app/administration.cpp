#include "app/administration.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "app/run_on.hpp"
#include "app/version.hpp"

namespace sluice::app {
namespace {

using runtime::Task;

// The members are references to what outlives every task.
struct Bridge {
  pull::Removal& removal;
  runtime::LoopPool& loops;
  runtime::TaskGroup& group;
};

Result<admin::Removed> removed(const Result<pull::Removal::Freed>& freed) {
  if (!freed) return freed.error();
  return admin::Removed{freed->known ? 1U : 0U, freed->tags, freed->file ? 1U : 0U, freed->bytes};
}

Task<Result<admin::Removed>> forget(Bridge bridge, store::Scope scope, oci::Digest digest) {
  const Result<pull::Removal::Freed> freed =
      co_await run_on(bridge.loops.at(0).get_executor(), bridge.group, bridge.removal.forget(std::move(scope), digest));
  co_return removed(freed);
}

Task<Result<admin::Removed>> drop(Bridge bridge, oci::Digest digest) {
  const Result<pull::Removal::Freed> freed =
      co_await run_on(bridge.loops.at(0).get_executor(), bridge.group, bridge.removal.drop(digest));
  co_return removed(freed);
}

admin::AdminApi::Actions actions(const Administration::Parts& parts) {
  const Bridge bridge{parts.removal, parts.loops, parts.group};
  return {[bridge](store::Scope scope, oci::Digest digest) { return forget(bridge, std::move(scope), digest); },
          [bridge](oci::Digest digest) { return drop(bridge, digest); },
          [bridge](const store::Scope& scope, const std::string& tag) { return bridge.removal.forget_tag(scope, tag); },
          [bridge] { return bridge.removal.flush(); }, parts.reload};
}

admin::Inventory::Params inventory_params(const config::Settings& settings, const Administration::Parts& parts) {
  return {settings.default_upstream, [&upstreams = parts.upstreams, &fills = parts.fills](const oci::Digest& digest) {
            for (const std::string& name : upstreams.origin_names()) {
              if (fills.contains(pull::fill_key(name, digest))) return true;
            }
            return false;
          }};
}

std::vector<admin::FillNow> fills_now(const streamcache::FileCache& fills) {
  std::vector<admin::FillNow> out;
  for (const streamcache::FileCache::InFlight& fill : fills.in_flight(admin::Overview::kFills)) {
    const auto [upstream, digest] = pull::parts_of_fill_key(fill.key);
    out.push_back({std::string(upstream), std::string(digest), fill.age, fill.written_bytes, fill.size_bytes,
                   fill.readers, fill.waits_for_readers, fill.unstored});
  }
  return out;
}

std::vector<admin::BigRepository> biggest(const store::BlobStore& store, const admin::Inventory& inventory) {
  if (!store.running()) return {};
  std::vector<admin::BigRepository> out;
  for (const admin::RepositoryRow& row : inventory.repositories({{}, std::numeric_limits<std::size_t>::max()}).rows) {
    if (row.bytes != 0) out.push_back({row.name, row.bytes, row.blobs});
  }
  const auto larger = [](const auto& a, const auto& b) {
    return a.bytes != b.bytes ? a.bytes > b.bytes : a.name < b.name;
  };
  std::sort(out.begin(), out.end(), larger);
  if (out.size() > admin::Overview::kRepositories) out.resize(admin::Overview::kRepositories);
  return out;
}

admin::Overview::Params overview_params(const Administration::Parts& parts, const admin::Inventory& inventory) {
  return {std::string(version()), [&fills = parts.fills] { return fills_now(fills); },
          [&store = parts.store, &inventory] { return biggest(store, inventory); }, &parts.pool};
}

}  // namespace

admin::OwnHosts own_hosts(const config::Admin& settings) {
  admin::OwnHosts out{settings.listen.address, settings.hosts};
  for (std::string& name : out.names) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  }
  return out;
}

Administration::Administration(const config::Settings& settings, const Parts& parts)
    : inventory_(inventory_params(settings, parts), parts.store, parts.parts, parts.filesystem),
      verify_(parts.store, parts.clock),
      overview_(parts.registry, parts.readiness, parts.clock, parts.recent, overview_params(parts, inventory_)),
      api_({std::string(version()), own_hosts(settings.admin)},
           {inventory_, parts.store, parts.parts, verify_, parts.pool, parts.filesystem, parts.clock, &overview_},
           actions(parts)) {}

}  // namespace sluice::app

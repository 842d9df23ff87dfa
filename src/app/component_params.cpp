#include "app/component_params.hpp"

#include <chrono>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

#include <fmt/format.h>

#include "descriptors/brief_descriptor_cache.hpp"
#include "descriptors/memory_descriptor_cache.hpp"
#include "descriptors/null_descriptor_cache.hpp"
#include "descriptors/redis_descriptor_cache.hpp"

namespace sluice::app {
namespace {

using namespace std::chrono_literals;

descriptors::RedisParams redis_params(const config::Settings& settings) {
  const config::Redis& from = settings.redis;
  descriptors::RedisParams params;
  for (const std::string& text : from.addresses) {
    const auto address = descriptors::RedisAddress::parse(text);
    if (!address) throw std::runtime_error(fmt::format("redis.addresses: {} is no address", text));
    params.addresses.push_back(*address);
  }
  params.username = from.username;
  params.password = from.password;
  params.database = static_cast<unsigned>(from.db);
  params.connect_timeout = from.connect_timeout;
  params.command_timeout = from.command_timeout;
  params.pool_size = from.pool_size;
  // As a registry of distribution names them that is a proxy of the default upstream.
  params.strip_prefix = settings.default_upstream + "/";
  for (const auto& [name, upstream] : settings.upstreams) params.upstreams.push_back(name);
  return params;
}

}  // namespace

http::Server::Params server_params(const config::Server& server, runtime::DiskPool& pool,
                                   std::shared_ptr<http::OwnListeners> own_listeners) {
  http::Server::Params params;
  params.name = "registry";
  params.header_timeout = server.header_timeout;
  params.idle_timeout = server.idle_timeout;
  params.send_timeout = server.send_stall_timeout;
  params.max_header_bytes = server.max_header_bytes;
  params.max_connections = server.max_connections;
  params.disk_pool = &pool;
  params.own_listeners = std::move(own_listeners);
  return params;
}

store::BlobStore::Params store_params(const config::Settings& settings) {
  store::BlobStore::Params params;
  params.root = settings.data;
  params.file_mode = settings.store.mode;
  params.durability = settings.store.fsync ? store::Durability::data : store::Durability::none;
  params.max_size = settings.store.max_size;
  params.min_free = settings.store.min_free;
  params.max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.max_age);
  params.quarantine_max_age = std::chrono::duration_cast<std::chrono::seconds>(settings.store.quarantine_max_age);
  params.max_tag_age = std::chrono::hours{90 * 24};
  params.scrub_rate = settings.store.scrub_rate;
  params.scrub_interval = std::chrono::duration_cast<std::chrono::seconds>(settings.store.scrub_interval);
  return params;
}

streamcache::FileCache::Params fill_params(const config::Settings& settings, const store::BlobStore& store) {
  const config::Fill& fill = settings.fill;
  streamcache::FileCache::Params params;
  params.directory = store.layout().incoming();
  params.retain = false;
  // Parts expire by themselves; this is for what else may lie there.
  params.max_age = settings.store.part_max_age + 1h;
  params.wait_for_abandoned = true;
  params.pipe.hold_back_bytes = 1;
  params.pipe.unstored = true;
  params.pipe.memory = std::make_shared<streamcache::MemoryBudget>(fill.memory_bytes);
  params.pipe.window_bytes = fill.window_bytes == 0 ? std::nullopt : std::optional(fill.window_bytes);
  params.pipe.abandoned =
      fill.abandoned == config::Abandoned::finish ? streamcache::Abandoned::finish : streamcache::Abandoned::fail;
  return params;
}

pull::BlobService::Params blob_params(const config::Fill& fill,
                                      std::function<void(const std::string&)> on_store_trouble) {
  pull::BlobService::Params params;
  params.ranges.enabled = fill.ranges == config::Ranges::direct;
  params.ranges.limit_bytes = fill.range_limit_bytes == 0 ? UINT64_MAX : fill.range_limit_bytes;
  if (fill.window_bytes != 0) params.ranges.ahead_bytes = fill.window_bytes;
  params.on_store_trouble = std::move(on_store_trouble);
  return params;
}

std::unique_ptr<descriptors::BlobDescriptorCacheProvider> make_front(const config::Settings& settings,
                                                                     const descriptors::RightsMarks& marks,
                                                                     runtime::LoopPool& loops, const Clock& clock,
                                                                     metrics::Registry& registry) {
  switch (settings.descriptors.cache) {
    case config::DescriptorCache::none: return std::make_unique<descriptors::NullDescriptorCache>();
    case config::DescriptorCache::redis: {
      auto redis =
          std::make_unique<descriptors::RedisDescriptorCache>(redis_params(settings), loops, clock, registry, &marks);
      if (settings.redis.memory_ttl.count() == 0) return redis;
      return std::make_unique<descriptors::BriefDescriptorCache>(
          descriptors::BriefDescriptorCache::Params{.ttl = settings.redis.memory_ttl,
                                                    .max_entries = settings.descriptors.size},
          std::move(redis), clock);
    }
    case config::DescriptorCache::memory: break;
  }
  return std::make_unique<descriptors::MemoryDescriptorCache>(
      descriptors::MemoryDescriptorCache::Params{.max_entries = settings.descriptors.size});
}

std::string front_name(config::DescriptorCache cache) {
  switch (cache) {
    case config::DescriptorCache::none: return "none";
    case config::DescriptorCache::redis: return "redis";
    case config::DescriptorCache::memory: break;
  }
  return "memory";
}

}  // namespace sluice::app

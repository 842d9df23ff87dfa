// Parts of the settings in the words of the components. Called at the start, by one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "config/settings.hpp"
#include "descriptors/descriptor_service.hpp"
#include "descriptors/rights_marks.hpp"
#include "http/server.hpp"
#include "pull/blob_service.hpp"
#include "runtime/loop.hpp"
#include "store/blob_store.hpp"
#include "streamcache/file_cache.hpp"

namespace sluice::app {

http::Server::Params server_params(const config::Server& server, runtime::DiskPool& pool,
                                   std::shared_ptr<http::OwnListeners> own_listeners);
store::BlobStore::Params store_params(const config::Settings& settings);
streamcache::FileCache::Params fill_params(const config::Settings& settings, const store::BlobStore& store);
pull::BlobService::Params blob_params(const config::Fill& fill,
                                      std::function<void(const std::string&)> on_store_trouble);
// The descriptor cache in front of the catalog. What it is given outlives it.
std::unique_ptr<descriptors::BlobDescriptorCacheProvider> make_front(const config::Settings& settings,
                                                                     const descriptors::RightsMarks& marks,
                                                                     runtime::LoopPool& loops, const Clock& clock,
                                                                     metrics::Registry& registry);
std::string front_name(config::DescriptorCache cache);

}  // namespace sluice::app

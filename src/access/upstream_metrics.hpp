// UpstreamMetrics: what is counted for each upstream. References, so copies of it mean the same counters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "access/cache_result.hpp"
#include "base/metrics.hpp"

namespace sluice::access {

// What a request asks for; the `kind` label.
enum class Content : std::uint8_t {
  blob,
  manifest,
  list,  // tags, referrers, the catalog
};
inline constexpr std::size_t kContents = 3;

std::string_view name(Content content) noexcept;

// What is counted for each upstream: the label is its configured name, so there are as many as the configuration has
// had since the start. Requests that reached no upstream are counted under "none".
struct UpstreamMetrics {
  UpstreamMetrics(metrics::Registry& registry, std::string_view upstream);

  // Requests by how the cache came by the answer.
  [[nodiscard]] metrics::Counter& requests(Content content, CacheResult result) const {
    return *requests_[static_cast<std::size_t>(content)][static_cast<std::size_t>(result)];
  }
  // Of bodies, sent to clients.
  [[nodiscard]] metrics::Counter& client_bytes(Content content) const {
    return *client_bytes_[static_cast<std::size_t>(content)];
  }

  metrics::Counter& cache_bytes;              // of bodies, sent from what was at rest
  metrics::Counter& received_blob_bytes;      // by fills, from upstream
  metrics::Counter& received_manifest_bytes;  // from upstream
  metrics::Counter& received_range_bytes;     // of ranges, from upstream, passed through
  metrics::Counter& range_bytes;              // the same, under the name of its own
  metrics::Counter& stored_bytes;             // of blobs and manifests that were verified and put into the store

 private:
  std::array<std::array<metrics::Counter*, kCacheResults.size()>, kContents> requests_;
  std::array<metrics::Counter*, kContents> client_bytes_;
};

}  // namespace sluice::access

// What the proxy counts. Made once; references, so copies of it mean the same counters.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include "base/metrics.hpp"
#include "proxy/access_log.hpp"

namespace sluice::proxy {

struct Route;

// What a request asks for; the `kind` label.
enum class Content : std::uint8_t {
  blob,
  manifest,
  list,  // tags, referrers, the catalog
};
inline constexpr std::size_t kContents = 3;

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
  std::array<std::array<metrics::Counter*, kCacheResults>, kContents> requests_;
  std::array<metrics::Counter*, kContents> client_bytes_;
};

// What a question to upstream whether a tag has moved came to.
enum class TagCheck : std::uint8_t { added, unchanged, moved, gone, denied, failed };
inline constexpr std::size_t kTagChecks = 6;

struct Metrics {
  explicit Metrics(metrics::Registry& registry);

  // Those of the upstream that the route leads to.
  [[nodiscard]] const UpstreamMetrics& of(const Route& route) const;
  // Those of requests that reached no upstream.
  [[nodiscard]] const UpstreamMetrics& of_none() const { return *none_; }

  // Null for results that this content cannot have. Indexed by Content and CacheResult.
  using Latencies = std::array<std::array<metrics::Histogram*, kCacheResults>, kContents>;
  Latencies first_byte;
  Latencies request_duration;

  std::array<metrics::Counter*, kTagChecks> tag_checks;  // indexed by TagCheck

  metrics::Counter& fills_completed;
  metrics::Counter& fills_failed;
  metrics::Counter& fills_resumed;  // goes on from where a connection broke
  metrics::Counter& fill_digest_mismatches;
  metrics::Counter& fills_unstored;  // went on in memory because the disk refused them

  metrics::Counter& names_verified;  // blobs at rest that were hashed to see whether they are what they are said to be
  metrics::Counter& names_refuted;

  metrics::Counter& parts_adopted;
  metrics::Counter& parts_bytes_saved;  // that upstream need not send again
  metrics::Gauge& degraded_no_space;    // 1: the last fill could not be stored for that
  metrics::Gauge& degraded_io;

 private:
  std::shared_ptr<const UpstreamMetrics> none_;
};

}  // namespace sluice::proxy

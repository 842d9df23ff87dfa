// What the proxy counts. Made once; references, so copies of it mean the same counters.
#pragma once

#include <array>

#include "base/metrics.hpp"
#include "proxy/access_log.hpp"

namespace sluice::proxy {

struct Metrics {
  explicit Metrics(metrics::Registry& registry);

  // Requests by how the cache came by the answer: indexed by CacheResult.
  using ByResult = std::array<metrics::Counter*, kCacheResults>;
  ByResult blob_requests;
  ByResult manifest_requests;
  ByResult list_requests;

  metrics::Counter& cache_bytes;     // of bodies, sent from what was at rest
  metrics::Counter& upstream_bytes;  // of blobs and manifests, received
  metrics::Counter& range_bytes;     // of ranges, received and passed through; they are in upstream_bytes too
  metrics::Counter& client_bytes;    // of bodies, sent

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
};

}  // namespace sluice::proxy

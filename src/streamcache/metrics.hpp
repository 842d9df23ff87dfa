// What the streaming cache counts.
#pragma once

#include <memory>

#include "base/metrics.hpp"

namespace sluice::streamcache {

// References into a Registry that outlives it. Copies count into the same metrics.
struct Metrics {
  explicit Metrics(metrics::Registry& registry);

  metrics::Gauge& index_entries;
  metrics::Gauge& disk_usage_bytes;
  metrics::Counter& removed;
  metrics::Gauge& fills_in_flight;
  metrics::Gauge& readers;
  // Of fills that have ended and of which something was written.
  metrics::Histogram& completed_seconds;
  metrics::Histogram& failed_seconds;
  metrics::Histogram& readers_of_fill;  // how many streams each of them had, first to last
  // How long writers waited for their readers. Shared with the registry, which shows it in seconds.
  std::shared_ptr<metrics::Counter> backpressure_wait_nanoseconds;
};

}  // namespace sluice::streamcache

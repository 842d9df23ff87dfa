#include "streamcache/metrics.hpp"

namespace sluice::streamcache {

Metrics::Metrics(metrics::Registry& registry)
    : index_entries(registry.gauge("sluice_streamcache_index_entries", "Entries in the index of the streaming cache.")),
      disk_usage_bytes(registry.gauge("sluice_streamcache_filestore_disk_usage_bytes",
                                      "Bytes in the directory of the streaming cache at its last walk.")),
      removed(registry.counter("sluice_streamcache_filestore_removed_total",
                               "Files that a walk through the directory of the streaming cache removed.")),
      fills_in_flight(registry.gauge("sluice_fills_in_flight", "Fills that are running.")),
      readers(registry.gauge("sluice_fill_readers", "Open streams on fills, running or finished.")),
      backpressure_wait_nanoseconds(std::make_shared<metrics::Counter>()) {
  registry.computed(metrics::Kind::counter, "sluice_fill_backpressure_wait_seconds_total",
                    "How long fills waited for their readers.", {},
                    [waited = backpressure_wait_nanoseconds] { return static_cast<double>(waited->value()) / 1e9; });
}

}  // namespace sluice::streamcache

#include "streamcache/metrics.hpp"

namespace sluice::streamcache {
namespace {

metrics::Histogram& fill_seconds(metrics::Registry& registry, const char* result) {
  return registry.histogram("sluice_fill_duration_seconds",
                            "How long fills took that received at least a byte, waiting for readers included.",
                            {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600},
                            {{"result", result}});
}

}  // namespace

Metrics::Metrics(metrics::Registry& registry)
    : index_entries(registry.gauge("sluice_streamcache_index_entries", "Entries in the index of the streaming cache.")),
      disk_usage_bytes(registry.gauge("sluice_streamcache_filestore_disk_usage_bytes",
                                      "Bytes in the directory of the streaming cache at its last walk.")),
      removed(registry.counter("sluice_streamcache_filestore_removed_total",
                               "Files that a walk through the directory of the streaming cache removed.")),
      fills_in_flight(registry.gauge("sluice_fills_in_flight", "Fills that are running.")),
      readers(registry.gauge("sluice_fill_readers", "Open streams on fills, running or finished.")),
      completed_seconds(fill_seconds(registry, "completed")),
      failed_seconds(fill_seconds(registry, "failed")),
      readers_of_fill(registry.histogram("sluice_fill_readers_per_fill",
                                         "How many readers each fill had, from its start to its end.",
                                         {1, 2, 5, 10, 20, 50, 100, 200, 500})),
      backpressure_wait_nanoseconds(std::make_shared<metrics::Counter>()) {
  registry.computed(metrics::Kind::counter, "sluice_fill_backpressure_wait_seconds_total",
                    "How long fills waited for their readers.", {},
                    [waited = backpressure_wait_nanoseconds] { return static_cast<double>(waited->value()) / 1e9; });
}

}  // namespace sluice::streamcache

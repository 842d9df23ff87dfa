#include "proxy/metrics.hpp"

namespace sluice::proxy {
namespace {

Metrics::ByResult by_result(metrics::Registry& registry, std::string_view name, std::string_view help) {
  Metrics::ByResult out{};
  for (const CacheResult result :
       {CacheResult::none, CacheResult::hit, CacheResult::join, CacheResult::miss, CacheResult::stale,
        CacheResult::error, CacheResult::unknown, CacheResult::denied, CacheResult::range}) {
    out[static_cast<std::size_t>(result)] =
        &registry.counter(name, help, {{"result", std::string(proxy::name(result))}});
  }
  return out;
}

}  // namespace

Metrics::Metrics(metrics::Registry& registry)
    : blob_requests(by_result(registry, "sluice_blob_requests_total",
                              "Requests for blobs by how they were answered: hit at rest, join a fill in flight, miss "
                              "(upstream was asked), range (of what is not here, passed through), unknown (upstream "
                              "does not have it), denied (nor gives it to us), "
                              "error (no answer could be had), none (refused before the cache was asked)")),
      manifest_requests(by_result(registry, "sluice_manifest_requests_total",
                                  "Requests for manifests by how they were answered; stale: upstream could not be "
                                  "asked whether the tag has moved")),
      list_requests(by_result(registry, "sluice_list_requests_total",
                              "Requests for tags, referrers and the catalog by how they were answered; stale: upstream "
                              "could not be asked")),
      cache_bytes(registry.counter("sluice_cache_sent_bytes_total", "Bytes of bodies sent from what is stored")),
      upstream_bytes(
          registry.counter("sluice_fill_received_bytes_total", "Bytes of blobs and manifests received from upstream")),
      range_bytes(registry.counter("sluice_range_received_bytes_total",
                                   "Bytes of blobs received from upstream in ranges, and passed through unstored")),
      client_bytes(registry.counter("sluice_client_sent_bytes_total", "Bytes of bodies sent to clients")),
      fills_completed(registry.counter("sluice_fills_completed_total", "Downloads that ended with the right digest")),
      fills_failed(registry.counter("sluice_fills_failed_total", "Downloads that failed")),
      fills_resumed(registry.counter("sluice_fills_resumed_total",
                                     "Times that a download went on from the byte where its connection broke")),
      fill_digest_mismatches(registry.counter("sluice_fill_digest_mismatches_total",
                                              "Downloads whose bytes did not have the digest they were asked by")),
      fills_unstored(registry.counter("sluice_fills_unstored_total",
                                      "Downloads that went on in memory because the disk refused them")),
      names_verified(registry.counter(
          "sluice_blob_names_total", "Blobs at rest that were hashed because they were said to have another digest too",
          {{"result", "verified"}})),
      names_refuted(registry.counter("sluice_blob_names_total",
                                     "Blobs at rest that were hashed because they were said to have another digest too",
                                     {{"result", "refuted"}})),
      parts_adopted(registry.counter("sluice_parts_adopted_total", "Downloads that went on from a part")),
      parts_bytes_saved(
          registry.counter("sluice_parts_bytes_saved_total", "Bytes of parts that upstream need not send again")),
      degraded_no_space(registry.gauge("sluice_store_degraded",
                                       "1 while new blobs pass through memory because they cannot be stored",
                                       {{"reason", "no_space"}})),
      degraded_io(registry.gauge("sluice_store_degraded",
                                 "1 while new blobs pass through memory because they cannot be stored",
                                 {{"reason", "io"}})) {}

}  // namespace sluice::proxy

#include "access/upstream_metrics.hpp"

#include <string>

namespace sluice::access {
namespace {

constexpr std::array<std::string_view, kContents> kRequestHelp{
    "Requests for blobs by upstream and by how they were answered: hit (from the store), join (from a fill in flight), "
    "miss (upstream was asked), range (of a blob that is not stored, passed through), stale (upstream could not be "
    "asked), unknown (upstream does not have it), denied (upstream refuses it), error (no answer could be had), none "
    "(refused before the cache was asked)",
    "Requests for manifests by upstream and by how they were answered; stale: upstream could not be asked whether the "
    "tag has moved",
    "Requests for tags, referrers and the catalog by upstream and by how they were answered; stale: upstream could not "
    "be asked"};

metrics::Labels of_upstream(std::string_view upstream) { return {{"upstream", std::string(upstream)}}; }

metrics::Counter& received(metrics::Registry& registry, std::string_view upstream, std::string_view kind) {
  return registry.counter("sluice_fill_received_bytes_total",
                          "Bytes of bodies received from upstream: blobs by fills, manifests, and ranges that are "
                          "passed through without being stored",
                          {{"upstream", std::string(upstream)}, {"kind", std::string(kind)}});
}

}  // namespace

std::string_view name(Content content) noexcept {
  constexpr std::array<std::string_view, kContents> kNames{"blob", "manifest", "list"};
  return kNames.at(static_cast<std::size_t>(content));
}

UpstreamMetrics::UpstreamMetrics(metrics::Registry& registry, std::string_view upstream)
    : cache_bytes(registry.counter("sluice_cache_sent_bytes_total", "Bytes of bodies sent to clients from the store",
                                   of_upstream(upstream))),
      received_blob_bytes(received(registry, upstream, "blob")),
      received_manifest_bytes(received(registry, upstream, "manifest")),
      received_range_bytes(received(registry, upstream, "range")),
      range_bytes(registry.counter("sluice_range_received_bytes_total",
                                   "Bytes of blobs received from upstream in ranges and passed through unstored",
                                   of_upstream(upstream))),
      stored_bytes(registry.counter("sluice_fill_stored_bytes_total",
                                    "Bytes of blobs and manifests that came from upstream, were verified and stored",
                                    of_upstream(upstream))) {
  for (std::size_t content = 0; content < kContents; ++content) {
    const std::string kind(name(static_cast<Content>(content)));
    client_bytes_[content] = &registry.counter("sluice_client_sent_bytes_total", "Bytes of bodies sent to clients",
                                               {{"upstream", std::string(upstream)}, {"kind", kind}});
    for (const CacheResult result : kCacheResults) {
      requests_[content][static_cast<std::size_t>(result)] =
          &registry.counter("sluice_" + kind + "_requests_total", kRequestHelp[content],
                            {{"upstream", std::string(upstream)}, {"result", std::string(name(result))}});
    }
  }
}

}  // namespace sluice::access

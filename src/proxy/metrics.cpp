#include "proxy/metrics.hpp"

#include "proxy/upstreams.hpp"

namespace sluice::proxy {
namespace {

constexpr std::array<CacheResult, kCacheResults> kResults{
    CacheResult::none,  CacheResult::hit,     CacheResult::join,   CacheResult::miss, CacheResult::stale,
    CacheResult::error, CacheResult::unknown, CacheResult::denied, CacheResult::range};
constexpr std::array<std::string_view, kContents> kContentNames{"blob", "manifest", "list"};
constexpr std::array<std::string_view, kTagChecks> kTagCheckNames{"added", "unchanged", "moved",
                                                                  "gone",  "denied",    "failed"};

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

// Only blobs are joined in flight or passed through in ranges.
bool can_have(Content content, CacheResult result) {
  if (result == CacheResult::none) return false;
  return content == Content::blob || (result != CacheResult::join && result != CacheResult::range);
}

Metrics::Latencies latencies(metrics::Registry& registry, std::string_view name, std::string_view help,
                             const std::vector<double>& bounds) {
  Metrics::Latencies out{};
  for (std::size_t content = 0; content < kContents; ++content) {
    for (const CacheResult result : kResults) {
      if (!can_have(static_cast<Content>(content), result)) continue;
      out[content][static_cast<std::size_t>(result)] = &registry.histogram(
          name, help, bounds,
          {{"kind", std::string(kContentNames[content])}, {"result", std::string(proxy::name(result))}});
    }
  }
  return out;
}

std::array<metrics::Counter*, kTagChecks> tag_check_counters(metrics::Registry& registry) {
  std::array<metrics::Counter*, kTagChecks> out{};
  for (std::size_t i = 0; i < kTagChecks; ++i) {
    out[i] = &registry.counter("sluice_tag_checks_total",
                               "Questions to upstream what a tag points to: added (a new tag), unchanged, moved, gone "
                               "(upstream has no such tag), denied, failed (no answer)",
                               {{"result", std::string(kTagCheckNames[i])}});
  }
  return out;
}

// Bodies take longer than their first byte.
std::vector<double> duration_bounds() { return {0.001, 0.005, 0.025, 0.1, 0.25, 1, 2.5, 10, 30, 60, 300, 1800}; }

}  // namespace

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
    const std::string kind(kContentNames[content]);
    client_bytes_[content] = &registry.counter("sluice_client_sent_bytes_total", "Bytes of bodies sent to clients",
                                               {{"upstream", std::string(upstream)}, {"kind", kind}});
    for (const CacheResult result : kResults) {
      requests_[content][static_cast<std::size_t>(result)] =
          &registry.counter("sluice_" + kind + "_requests_total", kRequestHelp[content],
                            {{"upstream", std::string(upstream)}, {"result", std::string(proxy::name(result))}});
    }
  }
}

const UpstreamMetrics& Metrics::of(const Route& route) const {
  return route.metrics != nullptr ? *route.metrics : *none_;
}

Metrics::Metrics(metrics::Registry& registry)
    : first_byte(latencies(registry, "sluice_http_first_byte_seconds",
                           "From the end of a request's head to the first byte of its answer, by what was asked for "
                           "and how it was answered",
                           metrics::latency_bounds())),
      request_duration(latencies(registry, "sluice_http_request_duration_seconds",
                                 "From the end of a request's head to the last byte of its answer, by what was asked "
                                 "for and how it was answered",
                                 duration_bounds())),
      tag_checks(tag_check_counters(registry)),
      fills_completed(registry.counter("sluice_fills_completed_total", "Downloads that ended with the right digest")),
      fills_failed(registry.counter("sluice_fills_failed_total", "Downloads that failed")),
      fills_resumed(registry.counter("sluice_fills_resumed_total",
                                     "How often a download was resumed at the byte where its connection broke")),
      fill_digest_mismatches(registry.counter("sluice_fill_digest_mismatches_total",
                                              "Downloads whose bytes did not have the digest they were asked by")),
      fills_unstored(registry.counter("sluice_fills_unstored_total",
                                      "Downloads that passed through memory because the disk refused them")),
      names_verified(registry.counter("sluice_blob_names_total",
                                      "Stored blobs that were hashed to verify a second digest",
                                      {{"result", "verified"}})),
      names_refuted(registry.counter("sluice_blob_names_total",
                                     "Stored blobs that were hashed to verify a second digest",
                                     {{"result", "refuted"}})),
      parts_adopted(registry.counter("sluice_parts_adopted_total", "Downloads that were resumed from a part")),
      parts_bytes_saved(registry.counter("sluice_parts_bytes_saved_total",
                                         "Bytes of parts that upstream did not have to send again")),
      degraded_no_space(registry.gauge("sluice_store_degraded",
                                       "1 while new blobs pass through memory because they cannot be stored",
                                       {{"reason", "no_space"}})),
      degraded_io(registry.gauge("sluice_store_degraded",
                                 "1 while new blobs pass through memory because they cannot be stored",
                                 {{"reason", "io"}})),
      none_(std::make_shared<const UpstreamMetrics>(registry, "none")) {}

}  // namespace sluice::proxy

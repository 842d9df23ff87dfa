#include "pull/metrics.hpp"

namespace sluice::pull {
namespace {

constexpr std::array<std::string_view, kTagChecks> kTagCheckNames{"added", "unchanged", "moved",
                                                                  "gone",  "denied",    "failed"};

// Only blobs are joined in flight or passed through in ranges.
bool can_have(access::Content content, access::CacheResult result) {
  if (result == access::CacheResult::none) return false;
  return content == access::Content::blob ||
         (result != access::CacheResult::join && result != access::CacheResult::range);
}

Metrics::Latencies latencies(metrics::Registry& registry, std::string_view family, std::string_view help,
                             const std::vector<double>& bounds) {
  Metrics::Latencies out{};
  for (std::size_t content = 0; content < access::kContents; ++content) {
    for (const access::CacheResult result : access::kCacheResults) {
      if (!can_have(static_cast<access::Content>(content), result)) continue;
      out[content][static_cast<std::size_t>(result)] = &registry.histogram(
          family, help, bounds,
          {{"kind", std::string(name(static_cast<access::Content>(content)))}, {"result", std::string(name(result))}});
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

const access::UpstreamMetrics& Metrics::of(const access::Route& route) const {
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
      none_(std::make_shared<const access::UpstreamMetrics>(registry, "none")) {}

}  // namespace sluice::pull

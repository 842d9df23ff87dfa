// What requests and fills count, for all upstreams together; for each of them: access/upstream_metrics.hpp.
// Made once; references, so copies of it mean the same counters.
#pragma once

#include <array>
#include <memory>
#include <string_view>

#include "access/upstream_metrics.hpp"
#include "access/upstreams.hpp"
#include "base/metrics.hpp"

namespace sluice::pull {

// What a question to upstream whether a tag has moved came to.
enum class TagCheck : std::uint8_t { added, unchanged, moved, gone, denied, failed };
inline constexpr std::size_t kTagChecks = 6;

struct Metrics {
  explicit Metrics(metrics::Registry& registry);

  // Those of the upstream that the route leads to.
  [[nodiscard]] const access::UpstreamMetrics& of(const access::Route& route) const;
  // Those of requests that reached no upstream.
  [[nodiscard]] const access::UpstreamMetrics& of_none() const { return *none_; }

  // Null for results that this content cannot have. Indexed by Content and CacheResult.
  using Latencies = std::array<std::array<metrics::Histogram*, access::kCacheResults.size()>, access::kContents>;
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
  std::shared_ptr<const access::UpstreamMetrics> none_;
};

}  // namespace sluice::pull

#include "admin/history.hpp"

#include "admin/families.hpp"

namespace sluice::admin {

Totals operator-(const Totals& a, const Totals& b) {
  return {a.blobs_served - b.blobs_served,
          a.blobs_counted - b.blobs_counted,
          a.manifests_served - b.manifests_served,
          a.manifests_counted - b.manifests_counted,
          a.requests - b.requests,
          a.sent_bytes - b.sent_bytes,
          a.received_bytes - b.received_bytes};
}

Totals totals_of(const std::vector<metrics::Family>& families) {
  const Requests blobs = requests_of(families, "sluice_blob_requests_total");
  const Requests manifests = requests_of(families, "sluice_manifest_requests_total");
  return {blobs.served(),
          blobs.counted(),
          manifests.served(),
          manifests.counted(),
          sum(families, "sluice_blob_requests_total") + sum(families, "sluice_manifest_requests_total") +
              sum(families, "sluice_list_requests_total"),
          sum(families, "sluice_client_sent_bytes_total"),
          sum(families, "sluice_fill_received_bytes_total")};
}

void History::add(Clock::Monotonic at, const Totals& totals) {
  const std::scoped_lock lock(mutex_);
  ring_[added_++ % kSamples] = {at, totals};
}

std::vector<Totals> History::steps(const Totals& totals) const {
  const std::scoped_lock lock(mutex_);
  std::vector<Totals> out;
  out.reserve(size());
  for (std::size_t i = 0; i < size(); ++i) {
    out.push_back((i + 1 < size() ? sample(i + 1).totals : totals) - sample(i).totals);
  }
  return out;
}

Totals History::since(std::chrono::nanoseconds ago, Clock::Monotonic now, const Totals& totals) const {
  const std::scoped_lock lock(mutex_);
  if (size() == 0) return totals;
  std::size_t from = 0;
  while (from + 1 < size() && now - sample(from + 1).at >= ago) ++from;
  return totals - sample(from).totals;
}

}  // namespace sluice::admin

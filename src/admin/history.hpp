// The last hour in numbers: samples of counters that only grow, one every half minute, in a ring of fixed size.
//
// Threads: all functions are thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"

namespace sluice::admin {

// Counters as they stand.
struct Totals {
  double blobs_served = 0;   // from the store, or by joining a download
  double blobs_counted = 0;  // all that had an answer of the cache
  double manifests_served = 0;
  double manifests_counted = 0;
  double requests = 0;  // for blobs, manifests and lists, whatever came of them
  double sent_bytes = 0;
  double received_bytes = 0;

  [[nodiscard]] double served() const { return blobs_served + manifests_served; }
  [[nodiscard]] double counted() const { return blobs_counted + manifests_counted; }
  friend Totals operator-(const Totals& a, const Totals& b);
};

Totals totals_of(const std::vector<metrics::Family>& families);

class History {
 public:
  static constexpr std::size_t kSamples = 121;  // an hour has 120 intervals
  static constexpr std::chrono::seconds kInterval{30};

  // To be called every kInterval.
  void add(Clock::Monotonic at, const Totals& totals);

  // What was added between two samples, the oldest first; the last one goes from the newest sample to `totals`.
  [[nodiscard]] std::vector<Totals> steps(const Totals& totals) const;
  // Since `ago`, or since the oldest sample.
  [[nodiscard]] Totals since(std::chrono::nanoseconds ago, Clock::Monotonic now, const Totals& totals) const;

 private:
  struct Sample {
    Clock::Monotonic at;
    Totals totals;
  };
  [[nodiscard]] const Sample& sample(std::size_t i) const { return ring_[(added_ - size() + i) % kSamples]; }
  [[nodiscard]] std::size_t size() const { return added_ < kSamples ? added_ : kSamples; }

  mutable std::mutex mutex_;  // guards all below
  std::array<Sample, kSamples> ring_;
  std::size_t added_ = 0;
};

}  // namespace sluice::admin

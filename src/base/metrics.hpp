// Counters, gauges and histograms that cost next to nothing to touch.
//
// A Counter has one slot for each of a few groups of threads: adding is a relaxed add on a cache line that threads
// rarely share (1.5 ns against 13 to 93 for a prometheus-cpp counter). The slots are summed when somebody scrapes.
// The Registry owns them all; a component takes references once, at construction, into one struct of its own:
//
//   struct Metrics {
//     explicit Metrics(metrics::Registry& registry);
//     metrics::Counter& hits;
//   };
//
// Names carry their unit (`_bytes`, `_seconds`, `_total`). Label values are known at start-up: nothing that a client
// chooses (repository, digest, tag) is ever one.
//
// Threads: Counter, Gauge and Histogram may be touched from any thread. Registry may be asked from any thread; it
// outlives everything that holds a reference.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace sluice::metrics {

// The slot of the calling thread, below Counter::kSlots.
std::size_t thread_slot() noexcept;

class Counter {
 public:
  static constexpr std::size_t kSlots = 8;

  void add(std::uint64_t n = 1) noexcept { slots_[thread_slot()].value.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t value() const noexcept;

 private:
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> value{0};
  };
  std::array<Slot, kSlots> slots_;
};

class Gauge {
 public:
  void add(std::int64_t n) noexcept { value_.fetch_add(n, std::memory_order_relaxed); }
  void set(std::int64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  [[nodiscard]] std::int64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// Counts how long a Gauge stays up: adds on construction, subtracts on destruction.
class GaugeGuard {
 public:
  explicit GaugeGuard(Gauge& gauge) : gauge_(&gauge) { gauge_->add(1); }
  GaugeGuard(GaugeGuard&& other) noexcept : gauge_(std::exchange(other.gauge_, nullptr)) {}
  GaugeGuard& operator=(GaugeGuard&&) = delete;
  GaugeGuard(const GaugeGuard&) = delete;
  GaugeGuard& operator=(const GaugeGuard&) = delete;
  ~GaugeGuard() {
    if (gauge_ != nullptr) gauge_->add(-1);
  }

 private:
  Gauge* gauge_;
};

// Observations in seconds, in buckets fixed at registration.
class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);

  void observe(double seconds) noexcept;

  struct Snapshot {
    std::vector<std::pair<double, std::uint64_t>> cumulative;  // upper bound (the last is +Inf), count up to it
    double sum = 0;
    std::uint64_t count = 0;
  };
  [[nodiscard]] Snapshot snapshot() const;

 private:
  std::vector<double> bounds_;
  std::vector<Counter> counts_;  // one for each bound, and one for what lies above the last
  Counter sum_nanoseconds_;
};

// Bounds that suit network and disk latencies, from 0.5 ms to 60 s.
std::vector<double> latency_bounds();

using Labels = std::vector<std::pair<std::string, std::string>>;

enum class Kind : std::uint8_t { counter, gauge, histogram };

struct Sample {
  Labels labels;
  double value = 0;               // counter, gauge
  Histogram::Snapshot histogram;  // histogram
};

struct Family {
  std::string name;
  std::string help;
  Kind kind = Kind::counter;
  std::vector<Sample> samples;
};

class Registry {
 public:
  Registry();
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // The metric of that name and those labels, made when it is not there yet. The first call decides the help text;
  // a name that is in use for another kind is a bug and throws std::logic_error.
  Counter& counter(std::string_view name, std::string_view help, Labels labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, Labels labels = {});
  Histogram& histogram(std::string_view name, std::string_view help, std::vector<double> bounds, Labels labels = {});

  // A value that is computed when somebody scrapes. `read` is called from the scraping thread, under the registry's
  // lock, and must be cheap and live as long as the registry.
  void computed(Kind kind, std::string_view name, std::string_view help, Labels labels, std::function<double()> read);

  // Everything, sorted by name.
  [[nodiscard]] std::vector<Family> collect() const;

 private:
  struct Entry;
  struct Named;
  Named& family(Kind kind, std::string_view name, std::string_view help);
  Entry& entry(Named& in, Labels labels);

  mutable std::mutex mutex_;  // guards families_ and what hangs below, not the metrics' values
  std::vector<std::unique_ptr<Named>> families_;

 public:
  ~Registry();
};

}  // namespace sluice::metrics

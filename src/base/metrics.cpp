#include "base/metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace sluice::metrics {

std::size_t thread_slot() noexcept {
  static std::atomic<std::size_t> next{0};
  thread_local const std::size_t slot = next.fetch_add(1, std::memory_order_relaxed) % Counter::kSlots;
  return slot;
}

std::uint64_t Counter::value() const noexcept {
  std::uint64_t sum = 0;
  for (const Slot& slot : slots_) sum += slot.value.load(std::memory_order_relaxed);
  return sum;
}

Histogram::Histogram(std::vector<double> upper_bounds) : bounds_(std::move(upper_bounds)), counts_(bounds_.size() + 1) {
  if (!std::is_sorted(bounds_.begin(), bounds_.end())) throw std::logic_error("histogram bounds must ascend");
}

void Histogram::observe(double seconds) noexcept {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), seconds) - bounds_.begin();
  counts_[static_cast<std::size_t>(at)].add();
  sum_nanoseconds_.add(static_cast<std::uint64_t>(std::max(0.0, seconds) * 1e9));
}

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot out;
  out.cumulative.reserve(counts_.size());
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    out.count += counts_[i].value();
    out.cumulative.emplace_back(i < bounds_.size() ? bounds_[i] : std::numeric_limits<double>::infinity(), out.count);
  }
  out.sum = static_cast<double>(sum_nanoseconds_.value()) / 1e9;
  return out;
}

std::vector<double> latency_bounds() {
  return {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

struct Registry::Entry {
  Labels labels;
  std::unique_ptr<Counter> counter;
  std::unique_ptr<Gauge> gauge;
  std::unique_ptr<Histogram> histogram;
  std::function<double()> read;
};

struct Registry::Named {
  std::string name;
  std::string help;
  Kind kind;
  std::vector<std::unique_ptr<Entry>> entries;
};

Registry::Registry() = default;
Registry::~Registry() = default;

Registry::Named& Registry::family(Kind kind, std::string_view name, std::string_view help) {
  for (const auto& family : families_) {
    if (family->name != name) continue;
    if (family->kind != kind) throw std::logic_error("metric " + family->name + " is registered as another kind");
    return *family;
  }
  families_.push_back(std::make_unique<Named>(Named{std::string(name), std::string(help), kind, {}}));
  return *families_.back();
}

Registry::Entry& Registry::entry(Named& in, Labels labels) {
  for (const auto& entry : in.entries) {
    if (entry->labels == labels) return *entry;
  }
  in.entries.push_back(std::make_unique<Entry>());
  in.entries.back()->labels = std::move(labels);
  return *in.entries.back();
}

Counter& Registry::counter(std::string_view name, std::string_view help, Labels labels) {
  const std::scoped_lock lock(mutex_);
  Entry& made = entry(family(Kind::counter, name, help), std::move(labels));
  if (!made.counter) made.counter = std::make_unique<Counter>();
  return *made.counter;
}

Gauge& Registry::gauge(std::string_view name, std::string_view help, Labels labels) {
  const std::scoped_lock lock(mutex_);
  Entry& made = entry(family(Kind::gauge, name, help), std::move(labels));
  if (!made.gauge) made.gauge = std::make_unique<Gauge>();
  return *made.gauge;
}

Histogram& Registry::histogram(std::string_view name, std::string_view help, std::vector<double> bounds,
                               Labels labels) {
  const std::scoped_lock lock(mutex_);
  Entry& made = entry(family(Kind::histogram, name, help), std::move(labels));
  if (!made.histogram) made.histogram = std::make_unique<Histogram>(std::move(bounds));
  return *made.histogram;
}

void Registry::computed(Kind kind, std::string_view name, std::string_view help, Labels labels,
                        std::function<double()> read) {
  const std::scoped_lock lock(mutex_);
  entry(family(kind, name, help), std::move(labels)).read = std::move(read);
}

std::vector<Family> Registry::collect() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Family> out;
  out.reserve(families_.size());
  for (const auto& family : families_) {
    Family& made = out.emplace_back(Family{family->name, family->help, family->kind, {}});
    for (const auto& entry : family->entries) {
      Sample& sample = made.samples.emplace_back();
      sample.labels = entry->labels;
      if (entry->read) sample.value = entry->read();
      if (entry->counter) sample.value = static_cast<double>(entry->counter->value());
      if (entry->gauge) sample.value = static_cast<double>(entry->gauge->value());
      if (entry->histogram) sample.histogram = entry->histogram->snapshot();
    }
  }
  std::sort(out.begin(), out.end(), [](const Family& a, const Family& b) { return a.name < b.name; });
  return out;
}

}  // namespace sluice::metrics

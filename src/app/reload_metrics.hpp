// What is counted of reloads. Threads: thread-safe.
#pragma once

#include <chrono>

#include "base/metrics.hpp"

namespace sluice::app {

// The registry outlives it.
class ReloadMetrics {
 public:
  explicit ReloadMetrics(metrics::Registry& registry);
  void applied(std::chrono::system_clock::time_point now);
  void refused();

 private:
  metrics::Counter& applied_;
  metrics::Counter& refused_;
  metrics::Gauge& successful_;    // the last one; 1 from the start
  metrics::Gauge& success_time_;  // when the configuration in force was read
};

}  // namespace sluice::app

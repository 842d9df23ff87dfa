// Throttled: what an upstream has asked not to be asked for again for a while (Retry-After of a 429). Bounded.
//
// Threads: all functions are thread-safe. The Clock outlives it. Owned by an Exchange.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

#include "base/clock.hpp"
#include "base/sieve_map.hpp"

namespace sluice::upstream {

class Throttled {
 public:
  static constexpr std::size_t kMaxPaths = 10'000;
  // What has to wait for hours is asked for now and then: it may be over, and nobody waits for it so long.
  static constexpr std::chrono::minutes kLongest{1};

  explicit Throttled(const Clock& clock) : clock_(clock) {}

  // Zero is no time at all.
  void note(const std::string& path, std::chrono::milliseconds wait) {
    if (wait.count() <= 0) return;
    const std::scoped_lock lock(mutex_);
    until_.insert(path, clock_.now() + std::min<std::chrono::milliseconds>(wait, kLongest));
  }
  [[nodiscard]] std::chrono::milliseconds left(const std::string& path) {
    const std::scoped_lock lock(mutex_);
    const Clock::Monotonic* const until = until_.find(path);
    const Clock::Monotonic now = clock_.now();
    if (until == nullptr || *until <= now) return std::chrono::milliseconds(0);
    return std::chrono::ceil<std::chrono::milliseconds>(*until - now);
  }

 private:
  const Clock& clock_;
  std::mutex mutex_;  // guards until_
  SieveMap<std::string, Clock::Monotonic> until_{kMaxPaths};
};

}  // namespace sluice::upstream

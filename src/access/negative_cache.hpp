// What upstream has just said it does not have, so that a missing tag in a CI loop does not hammer it.
//
// Bounded in time and number. Thread-safe; one short lock.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>

#include "base/clock.hpp"
#include "base/sieve_map.hpp"

namespace sluice::access {

class NegativeCache {
 public:
  struct Params {
    std::chrono::milliseconds ttl{5'000};  // 0 turns it off
    std::size_t max_entries = 10'000;
  };

  NegativeCache(const Params& params, const Clock& clock)
      : ttl_(params.ttl), clock_(clock), until_(params.max_entries == 0 ? 1 : params.max_entries) {}

  void add(const std::string& key) {
    if (ttl_.count() <= 0) return;
    const std::scoped_lock lock(mutex_);
    until_.insert(key, clock_.now() + ttl_);
  }

  [[nodiscard]] bool contains(const std::string& key) {
    if (ttl_.count() <= 0) return false;
    const std::scoped_lock lock(mutex_);
    if (until_.size() == 0) return false;
    const Clock::Monotonic* until = until_.find(key);
    if (until == nullptr) return false;
    if (clock_.now() < *until) return true;
    until_.erase(key);
    return false;
  }

  void clear() {
    const std::scoped_lock lock(mutex_);
    until_.clear();
  }

  void erase(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    until_.erase(key);
  }

 private:
  const std::chrono::milliseconds ttl_;
  const Clock& clock_;
  std::mutex mutex_;  // guards until_
  SieveMap<std::string, Clock::Monotonic> until_;
};

}  // namespace sluice::access

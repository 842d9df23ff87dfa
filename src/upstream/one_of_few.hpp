// OneOfFew: counts those that do something costly at the same time, and says when there are too many. `count` outlives
// it.
//
// Threads: one at a time; the count may be shared by several.
#pragma once

#include <atomic>

namespace sluice::upstream {

class OneOfFew {
 public:
  OneOfFew(std::atomic<int>& count, int most) : count_(count), most_(most) {}
  OneOfFew(const OneOfFew&) = delete;
  OneOfFew& operator=(const OneOfFew&) = delete;
  ~OneOfFew() {
    if (taken_) count_.fetch_sub(1, std::memory_order_relaxed);
  }

  // Idempotent; false when there are too many already.
  [[nodiscard]] bool take() {
    if (taken_) return true;
    taken_ = count_.fetch_add(1, std::memory_order_relaxed) < most_;
    if (!taken_) count_.fetch_sub(1, std::memory_order_relaxed);
    return taken_;
  }

 private:
  std::atomic<int>& count_;
  const int most_;
  bool taken_ = false;
};

}  // namespace sluice::upstream

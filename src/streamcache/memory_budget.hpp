// What all unstored pipes together may hold in memory.
//
// It is counted, not enforced: pipes ask whether it is used up, and then hold as little as they can go on with
// (kLeastWindow each). So the memory of all is the limit, and that little for each pipe.
//
// Threads: thread-safe. Shared by the pipes of a cache.
#pragma once

#include <atomic>
#include <cstdint>

namespace sluice::streamcache {

class MemoryBudget {
 public:
  // How far an unstored pipe may be ahead of its slowest reader where nothing is left.
  static constexpr std::uint64_t kLeastWindow = 256 * 1024;

  explicit MemoryBudget(std::uint64_t limit_bytes) noexcept : limit_(limit_bytes) {}
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  void take(std::uint64_t bytes) noexcept { used_.fetch_add(bytes, std::memory_order_relaxed); }
  void give(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  [[nodiscard]] bool used_up() const noexcept { return used_.load(std::memory_order_relaxed) >= limit_; }
  [[nodiscard]] bool half_used() const noexcept { return used_.load(std::memory_order_relaxed) >= limit_ / 2; }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  const std::uint64_t limit_;
  std::atomic<std::uint64_t> used_{0};
};

}  // namespace sluice::streamcache

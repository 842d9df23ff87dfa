// Version: lets whoever has derived something from shared state see, without a lock, whether that has changed since.
//
//   reader   watch ── reads the state (under its lock) ── … ── unchanged()? then what it has derived still holds
//   writer   changes the state (under its lock) ── changed()
//
// The order counts: a reader watches before it reads, a writer tells after it has changed. So a reader that has seen
// the state from before a change sees afterwards that its watch is over. It may also be over without need.
//
// Threads: all functions are thread-safe. Owned by whoever owns the state; must outlive the watches.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace sluice {

class Version {
 public:
  class Watch {
   public:
    // Watches nothing, which does not change.
    Watch() = default;
    [[nodiscard]] bool unchanged() const noexcept {
      return version_ == nullptr || version_->value_.load(std::memory_order_acquire) == seen_;
    }

   private:
    friend class Version;
    explicit Watch(const Version& version)
        : version_(&version), seen_(version.value_.load(std::memory_order_acquire)) {}
    const Version* version_ = nullptr;
    std::uint64_t seen_ = 0;
  };

  [[nodiscard]] Watch watch() const noexcept { return Watch(*this); }
  void changed() noexcept { value_.fetch_add(1, std::memory_order_acq_rel); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// The same for a table: one version for all keys whose hashes meet, so that a change ends few watches of other keys.
class Versions {
 public:
  [[nodiscard]] Version::Watch watch(std::size_t hash) const noexcept { return cells_[hash % kCells].watch(); }
  void changed(std::size_t hash) noexcept { cells_[hash % kCells].changed(); }
  // All keys have.
  void all_changed() noexcept {
    for (Version& cell : cells_) cell.changed();
  }

 private:
  static constexpr std::size_t kCells = 1024;
  std::array<Version, kCells> cells_;
};

}  // namespace sluice

// Quarantine: blobs that turned out to be damaged, set aside under <root>/quarantine for somebody to look at. Nobody is
// ever served from there.
//
// They count in the store's account, and are the first to go when room is needed; each is removed after max_age.
// Owned by the BlobStore. Threads: thread-safe; all functions but bytes() block on the disk, without the lock.
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/filesystem.hpp"
#include "store/layout.hpp"
#include "store/ledger.hpp"

namespace sluice::store {

class Quarantine {
 public:
  Quarantine(const Layout& layout, std::chrono::seconds max_age, runtime::Filesystem& filesystem, Ledger& ledger,
             const Clock& clock, metrics::Registry& registry);
  Quarantine(const Quarantine&) = delete;
  Quarantine& operator=(const Quarantine&) = delete;

  // Finds what earlier processes left. Failures are logged.
  void start();

  // Moves the file in, `<algorithm>-<hex>` or that with a number; removes it instead where max_age is zero or it cannot
  // be moved. Where it is now, empty: removed. Errors: not_found, io; then it is where it was.
  Result<runtime::Path> take(const runtime::Path& from, const oci::Digest& digest, std::uint64_t size_bytes);

  // Removes what is too old.
  void expire();
  // Removes the oldest until `bytes` are free or nothing is left; returns how many bytes went. What cannot be removed
  // stays counted, and is tried again the next time.
  std::uint64_t make_room(std::uint64_t bytes);

  [[nodiscard]] std::uint64_t bytes() const noexcept { return static_cast<std::uint64_t>(bytes_.value()); }

 private:
  struct Kept {
    runtime::Path path;
    std::uint64_t size_bytes = 0;
    Clock::Wall since;
    Reservation room;
  };

  [[nodiscard]] Result<runtime::Path> free_name(const oci::Digest& digest) const;
  void add(Kept kept);
  bool remove_oldest(bool only_expired, std::uint64_t& freed, std::vector<Kept>& stuck);
  void keep(std::vector<Kept> stuck);

  const Layout& layout_;
  const std::chrono::seconds max_age_;
  runtime::Filesystem& filesystem_;
  Ledger& ledger_;
  const Clock& clock_;
  metrics::Gauge& bytes_;

  std::mutex mutex_;  // guards kept_
  std::vector<Kept> kept_;
};

}  // namespace sluice::store

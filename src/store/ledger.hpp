// Ledger: one account of the bytes under the store's root, so that its limit is never crossed.
//
//   at rest + idle + reserved + overhead  ≤  max size     at rest: blobs, until they are unlinked
//   reserved, but not yet written  ≤  free − min free     idle: parts that wait, and what is in quarantine
//                                                         reserved: what running fills will take, or have taken
//                                                         overhead: the catalog and the directories
//
// Room is reserved before it is written. Where there is none, but what is at rest or idle could make it, the
// reservation waits while the store's maintenance thread evicts; where even that would not help, it fails at once. So
// nobody ever waits for another fill.
//
// Amounts are what a file takes on the disk, in blocks of 4 KiB. Threads: all functions are thread-safe, one short
// lock. Owned by the BlobStore; outlives the reservations. A loop on which somebody waits outlives the maintenance.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <utility>

#include "base/metrics.hpp"
#include "base/result.hpp"
#include "runtime/task.hpp"

namespace sluice::store {

class Ledger;

constexpr std::uint64_t kBlockBytes = 4096;

// What a file of that length takes.
constexpr std::uint64_t on_disk(std::uint64_t size_bytes) noexcept {
  return size_bytes / kBlockBytes * kBlockBytes + (size_bytes % kBlockBytes == 0 ? 0 : kBlockBytes);
}

// Room for one file that is being written, or waits (idle); given back when it is destroyed. Whoever lets go of one has
// removed the file, or has had it adopted. Used by one task at a time.
class Reservation {
 public:
  Reservation() noexcept = default;
  Reservation(Reservation&& other) noexcept
      : ledger_(std::exchange(other.ledger_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)),
        written_(std::exchange(other.written_, 0)),
        idle_(std::exchange(other.idle_, false)) {}
  Reservation& operator=(Reservation&& other) noexcept;
  Reservation(const Reservation&) = delete;
  Reservation& operator=(const Reservation&) = delete;
  ~Reservation() { release(); }

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  // The file has `total_bytes` now: so much less is still to come out of the free space.
  void wrote(std::uint64_t total_bytes);
  void release() noexcept;

 private:
  friend class Ledger;
  Ledger* ledger_ = nullptr;
  std::uint64_t bytes_ = 0;
  std::uint64_t written_ = 0;
  bool idle_ = false;  // then all of it is written
};

class Ledger {
 public:
  enum class Kind : std::uint8_t {
    running,  // of a fill: it stays until that has ended
    idle,     // of a file that the maintenance may remove to make room
  };
  static constexpr std::uint64_t kUnlimited = ~std::uint64_t{0};

  // Calls `need_room` when the maintenance should look at wanted(): from any thread, without the lock.
  // `reserved` shows what is reserved.
  Ledger(std::function<void()> need_room, metrics::Gauge& reserved)
      : need_room_(std::move(need_room)), reserved_gauge_(reserved) {}
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  // --- Reservations.

  // Makes `reservation` at least as large as a file of `size_bytes`. May suspend while blobs are evicted. Errors:
  // no_space (all that could be evicted would not do; the reservation is as before), shutting_down.
  runtime::Task<Result<void>> grow(Reservation& reservation, std::uint64_t size_bytes);
  // Whether so many bytes more can ever get room, if all that is at rest and idle were evicted for them.
  [[nodiscard]] bool can_hold(std::uint64_t size_bytes) const;
  // What grow() says of one that cannot.
  [[nodiscard]] static Error no_room_for(std::uint64_t size_bytes);
  // For what is on the disk already: never fails, and may cross the limit, which then makes others go.
  Reservation hold(std::uint64_t size_bytes, Kind kind = Kind::running);
  // Makes it that of a file of `size_bytes` which is all written, without letting go of it in between.
  void settle(Reservation& reservation, std::uint64_t size_bytes, Kind kind);

  // --- What is at rest; for the store. Sizes of files.

  // A file of `size_bytes`, whose room was reserved, got its final name.
  void commit(Reservation reservation, std::uint64_t size_bytes);
  // One was found, or is gone.
  void found(std::uint64_t size_bytes);
  void gone(std::uint64_t size_bytes);

  // --- For the store's maintenance.

  void set_limit(std::uint64_t max_bytes);
  void set_overhead(std::uint64_t bytes);
  void add_overhead(std::uint64_t bytes);
  // What the file system has left now, and how much of that must stay. kUnlimited: it does not matter.
  void set_free(std::uint64_t available_bytes, std::uint64_t min_free_bytes);
  struct Wanted {
    std::uint64_t bytes = 0;      // to be made free now; 0: nothing
    bool for_free_space = false;  // because of min_free rather than the limit
  };
  // With the waiting reservations, and with some slack beyond, so that evictions come in batches.
  [[nodiscard]] Wanted wanted() const;
  // Nothing more can be evicted: those who still wait get no_space.
  void give_up();
  // From now on every grow() fails with shutting_down, those who wait too.
  void close();

  [[nodiscard]] std::uint64_t limit() const;
  [[nodiscard]] std::uint64_t at_rest() const;
  [[nodiscard]] std::uint64_t idle() const;
  [[nodiscard]] std::uint64_t reserved() const;
  [[nodiscard]] std::uint64_t overhead() const;
  [[nodiscard]] std::size_t waiting() const;

 private:
  friend class Reservation;

  enum class Verdict : std::uint8_t { granted, wait, no_space, closed };
  struct Waiter {
    std::uint64_t bytes = 0;
    std::function<void(Verdict)> resume;  // posts
  };

  // Under the lock:
  [[nodiscard]] std::uint64_t used() const noexcept { return at_rest_ + idle_ + reserved_ + overhead_; }
  [[nodiscard]] bool fits(std::uint64_t bytes) const noexcept;
  [[nodiscard]] bool could_fit(std::uint64_t bytes) const noexcept;
  [[nodiscard]] Wanted wanted_locked() const noexcept;
  Verdict decide(std::uint64_t bytes);
  void count(std::uint64_t bytes) noexcept;

  Verdict take(std::uint64_t bytes);
  runtime::Task<Verdict> wait(std::uint64_t bytes);
  void enlist(Waiter waiter);
  void release(const Reservation& reservation);
  void take_out(const Reservation& reservation) noexcept;
  void fail_waiting(Verdict verdict);
  // `apply` under the lock, then grants what has become possible.
  template <class F>
  void change(F apply);

  const std::function<void()> need_room_;
  metrics::Gauge& reserved_gauge_;
  mutable std::mutex mutex_;  // guards everything below
  std::uint64_t limit_ = kUnlimited;
  std::uint64_t at_rest_ = 0;
  std::uint64_t idle_ = 0;
  std::uint64_t reserved_ = 0;
  std::uint64_t overhead_ = 0;
  std::uint64_t unwritten_ = 0;  // of what is reserved
  std::uint64_t queued_ = 0;     // the sum of waiting_
  bool closed_ = false;
  // What may still be reserved before min_free is touched; counted on from when it was measured last.
  bool watches_free_ = false;
  std::int64_t headroom_ = 0;
  std::uint64_t min_free_ = 0;
  std::deque<Waiter> waiting_;  // in the order in which they came
};

}  // namespace sluice::store

// What has been taken out while questions about it were on their way to upstream.
//
// Whoever asks upstream takes a Ticket first, and before it remembers the answer asks whether the key was revoked
// since. An answer that is older than a removal serves those who wait for it, and is not remembered. Who remembers also
// asks once more afterwards, and takes back what it wrote: whichever of the two comes last, the removal wins.
//
//   asker     ticket ── asks ── revoked? ── remembers ── revoked? takes it back
//   removal               revokes ── clears
//
// A key is "<upstream>/<repository>" and what of it, so "<upstream>/" stands for all of an upstream: its rights have
// changed (rights_ledger.hpp).
//
// A key is kept only as long as a ticket that is older than its removal. Thread-safe, short locks; without removals a
// look costs one atomic read. Tickets do not outlive it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

namespace sluice::access {

class Revocations {
 public:
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), epoch_(other.epoch_), is_void_(other.is_void_) {}
    Ticket& operator=(Ticket&&) = delete;
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() {
      if (owner_ != nullptr) owner_->end(epoch_);
    }

   private:
    friend class Revocations;
    Ticket(Revocations& owner, std::uint64_t epoch, bool is_void) : owner_(&owner), epoch_(epoch), is_void_(is_void) {}
    Revocations* owner_;
    std::uint64_t epoch_;
    bool is_void_;
  };

  Revocations() = default;
  Revocations(const Revocations&) = delete;
  Revocations& operator=(const Revocations&) = delete;

  // `is_void`: everything is revoked for it, but nothing was removed.
  [[nodiscard]] Ticket begin(bool is_void = false);
  // From here on all tickets that exist know the key as revoked.
  void revoke(const std::string& key);
  [[nodiscard]] bool revoked(const Ticket& ticket, const std::string& key) const;
  // The same for that key alone: somebody has taken it out.
  [[nodiscard]] bool removed(const Ticket& ticket, const std::string& key) const;

  // How many there have been. As a part of the key under which questions are shared it keeps who asks after a removal
  // from joining a question that was put before it.
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_.load(std::memory_order_acquire); }
  // Keys that are kept; for tests.
  [[nodiscard]] std::size_t kept() const;

 private:
  void end(std::uint64_t epoch);
  [[nodiscard]] bool is_later(const std::string& key, std::uint64_t epoch) const;

  mutable std::mutex mutex_;  // guards everything below; epoch_ changes under it
  std::atomic<std::uint64_t> epoch_{0};
  std::map<std::uint64_t, std::size_t> open_;  // tickets by epoch
  std::unordered_map<std::string, std::uint64_t> revoked_;
};

}  // namespace sluice::access

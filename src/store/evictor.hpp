// The store's maintenance: a thread that measures the disk and evicts. Internal to the store.
//
//   made ──start()──▶ running ──stop()──▶ stopped
//
// start and stop from the store's owner; wake and round from any thread. Every second it looks at the free space and at
// what the catalog takes, and in larger steps at the directories and at what was not used for long; when the ledger
// needs room it is woken and evicts at once. A victim is chosen in memory and unlinked here, so no request waits for it
// but those whose own room it makes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

#include "store/blob_store.hpp"

namespace sluice::store {

class BlobStore::Evictor {
 public:
  Evictor(BlobStore& store, metrics::Registry& registry);
  Evictor(const Evictor&) = delete;
  Evictor& operator=(const Evictor&) = delete;
  ~Evictor() { stop(); }

  // The first measurement, on the calling thread; the ledger has its limits afterwards.
  void start();
  void stop();
  void wake();
  // Blocks until a round with everything in it, which began after this call, has ended.
  void round();

  // Called, without a lock, with each blob that was evicted. Before start.
  void set_on_evicted(std::function<void(const oci::Digest&)> on_evicted) { on_evicted_ = std::move(on_evicted); }
  void set_give_up(GiveUp give_up) { give_up_ = std::move(give_up); }
  // What on_evicted says, of one that somebody else took out. Any thread.
  void tell(const oci::Digest& digest) const {
    if (on_evicted_) on_evicted_(digest);
  }

 private:
  enum class Reason : std::uint8_t { size, free, age };

  void run();
  void work(bool everything);
  void measure_space();
  void measure_catalog();
  std::uint64_t bytes_of_directories(const runtime::Path& directory, int depth);
  void measure_directories();
  void evict_idle();
  void make_room();
  std::uint64_t evict_some(const Ledger::Wanted& wanted);
  std::uint64_t give_up_idle(std::uint64_t bytes, std::chrono::seconds idle);
  bool evict(const oci::Digest& digest, Reason reason);
  [[nodiscard]] bool stopping();

  BlobStore& store_;
  metrics::Gauge& max_bytes_;
  metrics::Counter& evicted_for_size_;
  metrics::Counter& evicted_for_free_;
  metrics::Counter& evicted_for_age_;
  metrics::Counter& evicted_bytes_;
  metrics::Histogram& eviction_age_;
  metrics::Gauge& filesystem_bytes_;
  metrics::Gauge& available_bytes_;
  std::function<void(const oci::Digest&)> on_evicted_;
  GiveUp give_up_;

  // The thread's alone once it runs.
  std::uint64_t ticks_ = 0;
  std::uint64_t catalog_bytes_ = 0;
  std::uint64_t directory_bytes_ = 0;
  bool space_failed_ = false;
  bool stuck_ = false;  // said that nothing is left to evict

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  bool stop_ = false;
  bool woken_ = false;
  std::uint64_t rounds_wanted_ = 0;
  std::uint64_t rounds_done_ = 0;
  std::thread thread_;
};

}  // namespace sluice::store

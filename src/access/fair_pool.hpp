// FairPool: threads for costly work that clients ask for, who take turns (base/fair_queue.hpp).
//
// Owned by who uses it. Threads: thread-safe; stop() before the loops whose tasks wait for it are destroyed.
#pragma once

#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "base/fair_queue.hpp"
#include "base/network.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/task.hpp"

namespace sluice::access {

class FairPool {
 public:
  struct Params {
    std::size_t threads = 2;
    std::size_t max_waiting = 1024;           // of all clients, those that run included
    std::size_t max_waiting_per_client = 16;  // of one
  };

  explicit FairPool(const Params& params);
  FairPool(const FairPool&) = delete;
  FairPool& operator=(const FairPool&) = delete;

  // Runs `work`, which must not throw, when its turn comes, and resumes with its result. `client` as in
  // IpAddress::client_key. Nothing where the client, or all of them together, wait for too much already. Not
  // cancellable.
  runtime::Task<std::optional<bool>> run(IpAddress client, std::function<bool()> work);

  // Finishes what was begun, and what waits. Idempotent; nothing may be run afterwards.
  void stop() { pool_.stop(); }

 private:
  using Work = std::function<void()>;
  struct Job {
    IpAddress client;
    Work work;
  };

  bool post(const IpAddress& client, Work work);
  void run_next();

  const Params params_;
  std::mutex mutex_;  // guards what follows
  std::size_t count_ = 0;
  FairQueue<Job> waiting_;
  std::unordered_map<IpAddress, std::size_t, IpAddressHash> counts_;  // by client, with those that run

  runtime::DiskPool pool_;  // last: its threads use all of the above
};

}  // namespace sluice::access

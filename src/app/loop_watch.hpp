// LoopWatch: looks whether the event loops run. It measures how late they get to work that is due
// (sluice_loop_lag_seconds), and tells the service manager that the program is alive as long as every loop still runs:
// a loop that hangs is not seen from outside while the others answer, so systemd is left to restart the service.
//
// Owned by the composition root; outlives the tasks that it spawns. Threads: start and look from one thread at a time;
// its tasks run on the loops that are watched and on the one that watches.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "app/service_manager.hpp"
#include "base/metrics.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::app {

class LoopWatch {
 public:
  // `loops`: how many are watched. `manager` and `registry` outlive it.
  LoopWatch(const ServiceManager& manager, std::size_t loops, metrics::Registry& registry);

  // Spawns the tasks: one on each of `loops`, and where the service manager has a watchdog one on `watcher`, which is
  // none of them.
  void start(runtime::LoopPool& loops, runtime::Loop& watcher, runtime::TaskGroup& tasks);

  // Whether all loops have run since the last call; the service manager is told if so.
  bool look();

 private:
  runtime::Task<void> beat(std::size_t loop, std::chrono::milliseconds interval);
  runtime::Task<void> watch(std::chrono::milliseconds interval);

  const ServiceManager& manager_;
  metrics::Histogram& lag_;
  std::vector<std::atomic<std::uint64_t>> beats_;
  std::vector<std::uint64_t> seen_;  // of look
};

}  // namespace sluice::app

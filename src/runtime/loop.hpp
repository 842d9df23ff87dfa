// An event loop: one io_context that one thread runs, with its deadlines.
//
// Every Task of the program runs on a Loop, so a task finds its loop with Loop::of(co_await this_coro::executor).
//
// Threads: a loop is run by one thread. post and spawn onto it are thread-safe; everything else on it is touched from
// that thread alone. Owned by a LoopPool, or by a test.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "runtime/deadline.hpp"
#include "runtime/task.hpp"

namespace sluice::runtime {

class Loop final : public asio::io_context {
 public:
  struct Params {
    // Where it stands among its siblings: an index for per-loop tables.
    std::size_t index = 0;
    // How often deadlines are looked at, and so how late one may fire.
    std::chrono::milliseconds tick{100};
  };

  explicit Loop(const Params& params);
  Loop() : Loop(Params{}) {}
  ~Loop();

  static Loop& of(const Executor& executor) noexcept { return static_cast<Loop&>(executor.context()); }

  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  [[nodiscard]] Deadlines& deadlines() noexcept { return deadlines_; }
  // The running thread is this loop's thread.
  [[nodiscard]] bool running_in_this_thread() const noexcept;

 private:
  const std::size_t index_;
  Deadlines deadlines_;
};

// A fixed number of loops with a thread each. Stops and joins its threads when it is destroyed.
//
// What runs on the loops must be gone, or be owned by the loops' handlers, before the pool is destroyed: cancel the
// task groups, wait for them, then let it go.
class LoopPool {
 public:
  // `count` of 0 means one for each processor that this process may use.
  LoopPool(std::size_t count, std::chrono::milliseconds tick = std::chrono::milliseconds{100});
  LoopPool(const LoopPool&) = delete;
  LoopPool& operator=(const LoopPool&) = delete;
  ~LoopPool();

  void start();
  // Lets the loops return from run() without waiting for their work, and joins the threads. Idempotent.
  void stop();

  [[nodiscard]] std::size_t size() const noexcept { return loops_.size(); }
  [[nodiscard]] Loop& at(std::size_t index) noexcept { return *loops_[index]; }

 private:
  std::vector<std::unique_ptr<Loop>> loops_;
  std::vector<asio::executor_work_guard<Executor>> work_;
  std::vector<std::thread> threads_;
};

// The processors that this process may use (its affinity mask), at least 1.
std::size_t usable_processors();

}  // namespace sluice::runtime

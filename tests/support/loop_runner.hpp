// LoopRunner: event loops with threads of their own, and a way to run tasks on them from a test.
//
//   LoopRunner loops;
//   const Result<int> answer = loops.run(ask(thing));            // blocks
//   std::future<Result<int>> later = loops.start(ask(thing), 1); // on the second loop
//   loops.stop();                                                // before what the loops' tasks used is destroyed
//
// Unlike RunTask it does not wait for timers that nobody waits for, such as those of a connection pool.
//
// Threads: the test's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <utility>

#include "runtime/loop.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::test {

class LoopRunner {
 public:
  // Deadlines are looked at every 5 ms, so that short time-outs are short.
  explicit LoopRunner(std::size_t loops = 1) : loops_(loops, std::chrono::milliseconds(5)) { loops_.start(); }
  ~LoopRunner() { stop(); }
  LoopRunner(const LoopRunner&) = delete;
  LoopRunner& operator=(const LoopRunner&) = delete;

  template <class T>
  std::future<T> start(runtime::Task<T> task, std::size_t loop = 0) {
    return start_in(group_, std::move(task), loop);
  }
  // In a group of the test's own, to cancel it.
  template <class T>
  std::future<T> start_in(runtime::TaskGroup& group, runtime::Task<T> task, std::size_t loop = 0) {
    auto promise = std::make_shared<std::promise<T>>();
    std::future<T> future = promise->get_future();
    group.spawn(loops_.at(loop).get_executor(), carry(std::move(task), std::move(promise)));
    return future;
  }
  template <class T>
  T run(runtime::Task<T> task, std::size_t loop = 0) {
    return start(std::move(task), loop).get();
  }

  // Cancels the tasks, waits for them, and stops the threads. Idempotent.
  void stop() {
    group_.cancel();
    group_.wait_for(std::chrono::seconds(20));
    loops_.stop();
  }
  runtime::LoopPool& pool() noexcept { return loops_; }

 private:
  template <class T>
  static runtime::Task<void> carry(runtime::Task<T> task, std::shared_ptr<std::promise<T>> promise) {
    try {
      promise->set_value(co_await std::move(task));
    } catch (...) {
      promise->set_exception(std::current_exception());
    }
  }

  runtime::LoopPool loops_;
  runtime::TaskGroup group_{"test"};
};

}  // namespace sluice::test

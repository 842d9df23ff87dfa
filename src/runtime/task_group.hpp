// Tasks that belong together: spawned, cancelled and awaited as one.
//
// Every task that nobody awaits in place lives in a group: the connections of a server, the fills of a cache. The group
// outlives its tasks because whoever destroys it must have waited for them.
//
//   open ──cancel()──▶ cancelled: running tasks get a terminal cancellation, spawn() drops what it is given
//
// A task that ends with an exception other than a cancellation is a bug: it is logged as an error and the group goes
// on. Threads: all functions are thread-safe. wait_for must not be called on a loop that the tasks need.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "runtime/task.hpp"

namespace sluice::runtime {

class TaskGroup {
 public:
  // `name` stands in log lines.
  explicit TaskGroup(std::string name);
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;
  // Asserts that no task is left.
  ~TaskGroup();

  // Starts `task` on `executor`, soon. False, and the task is dropped unstarted, once the group is cancelled.
  bool spawn(Executor executor, Task<void> task);

  // Asks all tasks to end: each gets a terminal cancellation on its own executor. Idempotent, returns at once.
  void cancel();

  // Blocks the calling thread until no task is left, at most `timeout`. Returns whether none is left.
  bool wait_for(std::chrono::nanoseconds timeout);

  [[nodiscard]] std::size_t size() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace sluice::runtime

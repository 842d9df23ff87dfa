// Runs one task to its end on a loop of the calling thread, for tests of things that are awaited.
//
//   RunTask run;
//   const Result<Descriptor> found = run(cache.stat(digest));
//
// Whatever the task posts to other threads must come back to the loop. An exception of the task is thrown.
#pragma once

#include <exception>
#include <optional>
#include <utility>

#include <boost/asio/co_spawn.hpp>

#include "runtime/loop.hpp"
#include "runtime/task.hpp"

namespace sluice::test {

class RunTask {
 public:
  template <class T>
  T operator()(runtime::Task<T> task) {
    std::exception_ptr failure;
    std::optional<T> result;
    boost::asio::co_spawn(loop_.get_executor(), std::move(task), [&](std::exception_ptr thrown, T value) {
      failure = thrown;
      result.emplace(std::move(value));
    });
    loop_.restart();
    loop_.run();
    if (failure) std::rethrow_exception(failure);
    return std::move(*result);
  }

  runtime::Loop& loop() { return loop_; }

 private:
  runtime::Loop loop_;
};

}  // namespace sluice::test

// Threads for work that blocks, in two lanes, so that work that takes long does not hold up work that somebody waits
// for:
//
//   fast  what an answer waits for and takes a disk access or two: open, stat, a read of a piece
//   bulk  what takes as long as it takes: write-back, sync, hashing, unlinking, walks, lists
//
// Each lane has threads of its own and does its work in the order in which it came.
//
// Threads: thread-safe. Must be stopped before the loops whose tasks wait for it are destroyed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "runtime/task.hpp"

namespace sluice::runtime {

enum class Lane : std::uint8_t { fast, bulk };

class DiskPool {
 public:
  // `threads` for each lane, at least one.
  explicit DiskPool(std::size_t threads);
  DiskPool(const DiskPool&) = delete;
  DiskPool& operator=(const DiskPool&) = delete;
  ~DiskPool();

  // Runs `work` on a thread of the lane, some time. An exception is logged.
  void post(Lane lane, std::function<void()> work);

  // Finishes what was posted, then joins. Idempotent; nothing may be posted afterwards.
  void stop();

 private:
  struct Threads;
  std::unique_ptr<Threads> threads_;
};

// Runs `work` on the pool and resumes on the caller's own loop with its result, or with what it throws. `work` must be
// copyable. Not cancellable: it suspends until the work is done, so references into the awaiting frame are safe.
template <class F>
Task<std::invoke_result_t<F&>> offload(DiskPool& pool, F work, Lane lane = Lane::bulk) {
  using R = std::invoke_result_t<F&>;
  using Value = std::conditional_t<std::is_void_v<R>, bool, R>;
  struct Outcome {
    std::optional<Value> value;
    std::exception_ptr failure;
  };
  auto outcome = std::make_shared<Outcome>();
  auto run = [outcome, fn = std::move(work)]() mutable {
    try {
      if constexpr (std::is_void_v<R>) {
        fn();
      } else {
        outcome->value.emplace(fn());
      }
    } catch (...) {
      outcome->failure = std::current_exception();
    }
  };
  co_await asio::async_initiate<const asio::use_awaitable_t<Executor>, void()>(
      [&pool, lane](auto handler, auto fn) {
        // Shared, because std::function wants copyable and a coroutine handler is not.
        auto done = std::make_shared<decltype(handler)>(std::move(handler));
        auto executor = asio::get_associated_executor(*done);
        pool.post(lane, [done, fn = std::move(fn), guard = asio::make_work_guard(executor)]() mutable {
          fn();
          // The guard goes along: once the task can go on, its loop may be gone before this is.
          const auto on = guard.get_executor();
          asio::post(on, [done = std::move(done), guard = std::move(guard)] { std::move (*done)(); });
        });
      },
      kAwait, std::move(run));
  if (outcome->failure) std::rethrow_exception(outcome->failure);
  if constexpr (!std::is_void_v<R>) co_return *std::move(outcome->value);
}

}  // namespace sluice::runtime

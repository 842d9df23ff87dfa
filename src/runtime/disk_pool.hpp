// A pool of threads for work that blocks: cold reads, fsync, unlink, directory walks, hashing of large pieces.
//
// Threads: thread-safe. Must be stopped before the loops whose tasks wait for it are destroyed.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <type_traits>
#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include "runtime/task.hpp"

namespace sluice::runtime {

class DiskPool {
 public:
  explicit DiskPool(std::size_t threads);
  DiskPool(const DiskPool&) = delete;
  DiskPool& operator=(const DiskPool&) = delete;
  ~DiskPool();

  // Runs `work` on a thread of the pool, some time. `work` must not throw.
  void post(std::function<void()> work);

  // Finishes what was posted, then joins. Idempotent; nothing may be posted afterwards.
  void stop();

 private:
  struct Threads;
  std::unique_ptr<Threads> threads_;
};

// Runs `work` on the pool and resumes on the caller's own loop with its result. `work` must not throw and must be
// copyable. Not cancellable: it suspends until the work is done, so references into the awaiting frame are safe.
template <class F>
Task<std::invoke_result_t<F&>> offload(DiskPool& pool, F work) {
  using R = std::invoke_result_t<F&>;
  if constexpr (std::is_void_v<R>) {
    co_await asio::async_initiate<const asio::use_awaitable_t<Executor>, void()>(
        [&pool](auto handler, F fn) {
          // Shared, because std::function wants copyable and a coroutine handler is not.
          auto done = std::make_shared<decltype(handler)>(std::move(handler));
          auto executor = asio::get_associated_executor(*done);
          pool.post([done, fn = std::move(fn), guard = asio::make_work_guard(executor)]() mutable {
            fn();
            asio::post(guard.get_executor(), [done = std::move(done)] { std::move (*done)(); });
          });
        },
        kAwait, std::move(work));
  } else {
    co_return co_await asio::async_initiate<const asio::use_awaitable_t<Executor>, void(R)>(
        [&pool](auto handler, F fn) {
          auto done = std::make_shared<decltype(handler)>(std::move(handler));
          auto executor = asio::get_associated_executor(*done);
          pool.post([done, fn = std::move(fn), guard = asio::make_work_guard(executor)]() mutable {
            auto result = std::make_shared<R>(fn());
            asio::post(guard.get_executor(),
                       [done = std::move(done), result = std::move(result)] { std::move (*done)(std::move(*result)); });
          });
        },
        kAwait, std::move(work));
  }
}

}  // namespace sluice::runtime

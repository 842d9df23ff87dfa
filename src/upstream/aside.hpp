// Work that may block for long, on a thread of its own, awaited from a loop. Unlike runtime::offload nothing waits for
// the thread when the task is cancelled or the program ends: the work must own all that it touches.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "base/result.hpp"
#include "runtime/task.hpp"
#include "runtime/timer.hpp"

namespace sluice::upstream {

// `work` does not throw. Errors: its own; overloaded, no thread could be started; cancelled.
template <class T>
runtime::Task<Result<T>> do_aside(std::function<Result<T>()> work) {
  struct Waiter {
    explicit Waiter(const runtime::Executor& on) : executor(on), timer(on) {
      timer.expires_at(std::chrono::steady_clock::time_point::max());
    }
    const runtime::Executor executor;
    // Touched on its own loop alone.
    runtime::Timer timer;
    std::optional<Result<T>> answer;
  };
  // Between the task and the thread.
  struct Shared {
    std::mutex mutex;  // guards waiter
    std::shared_ptr<Waiter> waiter;
  };
  // However this ends, also when the task is unwound: the loop is there as long as the waiter is in its place.
  struct Membership {
    std::shared_ptr<Shared> shared = std::make_shared<Shared>();
    ~Membership() {
      const std::scoped_lock lock(shared->mutex);
      shared->waiter.reset();
    }
  };
  const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
  const Membership member;
  const auto waiter = std::make_shared<Waiter>(executor);
  member.shared->waiter = waiter;
  try {
    std::thread([shared = member.shared, work = std::move(work)] {
      Result<T> answer = work();
      const std::scoped_lock lock(shared->mutex);
      if (!shared->waiter) return;
      const runtime::Executor on = shared->waiter->executor;
      runtime::asio::post(on, [waiter = std::exchange(shared->waiter, nullptr), answer = std::move(answer)]() mutable {
        waiter->answer.emplace(std::move(answer));
        waiter->timer.cancel();
      });
    }).detach();
  } catch (const std::system_error& error) {
    co_return Error(Errc::overloaded, error.what());
  }
  co_await waiter->timer.async_wait(runtime::kAwaitTuple);
  if (!waiter->answer) co_return Error(Errc::cancelled);
  co_return std::move(*waiter->answer);
}

}  // namespace sluice::upstream

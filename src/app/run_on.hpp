// A task on another loop than the one that waits for it: the admin listener has a loop of its own, but what the proxy
// keeps for each loop (connections to Redis) is there for its own loops alone.
//
// The task lives in `group`; when that is cancelled, the caller gets `cancelled`. The wait itself cannot be cancelled.
// `R` is a Result. Thread-safe.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <utility>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/system_error.hpp>

#include "base/result.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::app {

// Hands the result over when it is destroyed: at the end of the task, or with one that was cancelled or never started.
template <class R>
class Landing {
 public:
  explicit Landing(std::function<void(R)> land) : land_(std::move(land)) {}
  Landing(const Landing&) = delete;
  Landing& operator=(const Landing&) = delete;
  ~Landing() { land_(std::move(result)); }

  R result = Error{Errc::cancelled};

 private:
  std::function<void(R)> land_;
};

template <class R>
runtime::Task<void> carry(std::unique_ptr<Landing<R>> landing, runtime::Task<R> task) {
  try {
    landing->result = co_await std::move(task);
  } catch (const boost::system::system_error& error) {
    if (error.code() == boost::asio::error::operation_aborted) throw;
    landing->result = Error{Errc::internal, error.what()};
  } catch (const std::exception& error) {
    landing->result = Error{Errc::internal, error.what()};
  }
}

template <class R>
runtime::Task<R> run_on(runtime::Executor where, runtime::TaskGroup& group, runtime::Task<R> task) {
  namespace asio = boost::asio;
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<runtime::Executor>, void(R)>(
      [where, &group](auto handler, runtime::Task<R> to_run) {
        auto done = std::make_shared<decltype(handler)>(std::move(handler));
        auto guard = asio::make_work_guard(asio::get_associated_executor(*done));
        auto landing = std::make_unique<Landing<R>>([done, guard](R result) {
          auto shared = std::make_shared<R>(std::move(result));
          asio::post(guard.get_executor(), [done, shared] { std::move (*done)(std::move(*shared)); });
        });
        group.spawn(where, carry<R>(std::move(landing), std::move(to_run)));
      },
      runtime::kAwait, std::move(task));
}

}  // namespace sluice::app

// One run of some work for all who ask for the same thing at the same time.
//
// The first caller of run(key) starts the work in the task group; whoever asks for that key before it has ended waits
// for the same result. Nobody's leaving stops it: the work is the group's, not the first caller's.
//
// Threads: run() may be awaited on any loop; each caller resumes on its own. A wait ends when the work does, so it ends
// soon after the group is cancelled; a terminal cancellation of the caller ends its own wait, with `cancelled`. The
// SingleFlight must outlive all waits.
#pragma once

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/system_error.hpp>

#include "base/result.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::runtime {

// T must be copyable: every waiter gets a copy, so make it a shared_ptr where it is large.
template <class Key, class T>
class SingleFlight {
 public:
  using Work = std::function<Task<Result<T>>()>;

  struct Outcome {
    Result<T> result;
    bool joined;  // somebody else's work was waited for
  };

  explicit SingleFlight(TaskGroup& group) : group_(group) {}
  SingleFlight(const SingleFlight&) = delete;
  SingleFlight& operator=(const SingleFlight&) = delete;

  // `work` is a function, not a coroutine: it is called once, on the first caller's loop, and what it refers to must
  // live until the group has ended. An exception of it becomes Errc::internal.
  Task<Outcome> run(Key key, Work work) {
    const Executor executor = co_await asio::this_coro::executor;
    std::shared_ptr<Flight> flight;
    bool joined = true;
    {
      const std::scoped_lock lock(mutex_);
      auto [at, inserted] = flights_.try_emplace(key);
      if (inserted) {
        at->second = std::make_shared<Flight>();
        joined = false;
      }
      flight = at->second;
    }
    if (!joined) group_.spawn(executor, fly(std::make_unique<Landing>(*this, flight, std::move(key)), std::move(work)));
    co_await arrival(flight);
    const std::scoped_lock lock(flight->mutex);
    if (!flight->result) co_return Outcome{Error{Errc::cancelled}, joined};
    co_return Outcome{*flight->result, joined};
  }

 private:
  struct Flight {
    std::mutex mutex;  // guards both
    std::optional<Result<T>> result;
    std::vector<std::function<void()>> waiters;
  };

  // Lets the waiters go when it is destroyed: at the end of the work, or with a task that was cancelled half way or
  // dropped before it started.
  struct Landing {
    Landing(SingleFlight& in, std::shared_ptr<Flight> of, Key by)
        : self(in), flight(std::move(of)), key(std::move(by)) {}
    Landing(const Landing&) = delete;
    Landing& operator=(const Landing&) = delete;
    ~Landing() { self.land(key, *flight, std::move(result)); }

    SingleFlight& self;
    std::shared_ptr<Flight> flight;
    Key key;
    Result<T> result = Error{Errc::cancelled};
  };

  static Task<void> fly(std::unique_ptr<Landing> landing, Work work) {
    try {
      landing->result = co_await work();
    } catch (const boost::system::system_error& error) {
      if (error.code() == asio::error::operation_aborted) throw;
      landing->result = Error{Errc::internal, error.what()};
    } catch (const std::exception& error) {
      landing->result = Error{Errc::internal, error.what()};
    }
  }

  void land(const Key& key, Flight& flight, Result<T> result) {
    {
      // Out of the table first: whoever comes from here on starts anew.
      const std::scoped_lock lock(mutex_);
      flights_.erase(key);
    }
    std::vector<std::function<void()>> waiters;
    {
      const std::scoped_lock lock(flight.mutex);
      flight.result.emplace(std::move(result));
      waiters.swap(flight.waiters);
    }
    for (const auto& wake : waiters) wake();
  }

  // A suspended caller. The work's end and the caller's own cancellation both wake it; the first one counts.
  template <class Handler>
  struct Waiter {
    explicit Waiter(Handler of) : handler(std::move(of)), guard(asio::make_work_guard(handler)) {}

    static void wake(const std::shared_ptr<Waiter>& waiter) {
      if (waiter->woken.exchange(true)) return;
      // On the caller's loop, where its cancellation is emitted too.
      asio::post(waiter->guard.get_executor(), [waiter] {
        asio::get_associated_cancellation_slot(waiter->handler).clear();
        waiter->guard.reset();
        std::move(waiter->handler)();
      });
    }

    Handler handler;
    asio::executor_work_guard<asio::associated_executor_t<Handler>> guard;
    std::atomic<bool> woken{false};
  };

  static Task<void> arrival(std::shared_ptr<Flight> flight) {
    co_await asio::async_initiate<const asio::use_awaitable_t<Executor>, void()>(
        [](auto handler, std::shared_ptr<Flight> awaited) {
          using Suspended = Waiter<decltype(handler)>;
          auto waiter = std::make_shared<Suspended>(std::move(handler));
          auto slot = asio::get_associated_cancellation_slot(waiter->handler);
          if (slot.is_connected()) {
            // Not to be kept alive by its own frame, in which the slot stands.
            slot.assign([weak = std::weak_ptr<Suspended>(waiter)](asio::cancellation_type type) {
              if ((type & asio::cancellation_type::terminal) == asio::cancellation_type::none) return;
              if (const auto cancelled = weak.lock()) Suspended::wake(cancelled);
            });
          }
          {
            const std::scoped_lock lock(awaited->mutex);
            if (!awaited->result) {
              awaited->waiters.push_back([waiter] { Suspended::wake(waiter); });
              return;
            }
          }
          Suspended::wake(waiter);
        },
        kAwait, std::move(flight));
  }

  TaskGroup& group_;
  std::mutex mutex_;  // guards flights_
  std::unordered_map<Key, std::shared_ptr<Flight>> flights_;
};

}  // namespace sluice::runtime

// Flights: one run of some work for all who need the same thing at the same time, as runtime::SingleFlight, but in the
// task of whoever comes first: nothing is left running when all who wanted it are gone. When the one who works is
// cancelled, another of those who wait takes over.
//
// Threads: run() may be awaited on any loop. Outlives all waits.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "base/result.hpp"
#include "runtime/task.hpp"
#include "runtime/timer.hpp"

namespace sluice::upstream {

template <class T>
class Flights {
 public:
  // A function, not a coroutine: called in the task of the one who works.
  using Work = std::function<runtime::Task<Result<T>>()>;

  Flights() = default;
  Flights(const Flights&) = delete;
  Flights& operator=(const Flights&) = delete;

  // Errors: those of the work, and `cancelled` when this task was.
  runtime::Task<Result<T>> run(std::string key, Work work) {
    const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
    while (true) {
      std::shared_ptr<Flight> flight;
      std::shared_ptr<Waiter> waiter;
      {
        const std::scoped_lock lock(mutex_);
        std::shared_ptr<Flight>& there = flights_[key];
        if (there) {
          flight = there;
          waiter = std::make_shared<Waiter>(executor);
          flight->waiters.push_back(waiter);
        } else {
          flight = there = std::make_shared<Flight>();
        }
      }
      if (!waiter) {
        Leader leader(*this, key, flight);
        Result<T> result = co_await work();
        leader.end(result);
        co_return result;
      }
      if (!waiter->woken) co_await waiter->timer.async_wait(runtime::kAwaitTuple);
      // Interrupted by something else than the end of the flight: this task has been cancelled.
      if (!waiter->woken) co_return Error(Errc::cancelled);
      const std::scoped_lock lock(mutex_);
      if (!flight->abandoned) co_return flight->result;
    }
  }

  // Whether somebody is at work for that key.
  [[nodiscard]] bool busy(const std::string& key) const {
    const std::scoped_lock lock(mutex_);
    return flights_.contains(key);
  }

 private:
  // Its timer is touched on its own loop alone.
  struct Waiter {
    explicit Waiter(const runtime::Executor& on) : executor(on), timer(on) {
      timer.expires_at(std::chrono::steady_clock::time_point::max());
    }
    runtime::Executor executor;
    runtime::Timer timer;
    bool woken = false;
  };

  struct Flight {
    bool abandoned = false;  // who worked was cancelled
    Result<T> result{Error(Errc::cancelled)};
    std::vector<std::shared_ptr<Waiter>> waiters;
  };

  // Whoever works; ends the flight in any case.
  class Leader {
   public:
    Leader(Flights& owner, std::string key, std::shared_ptr<Flight> flight)
        : owner_(owner), key_(std::move(key)), flight_(std::move(flight)) {}
    Leader(const Leader&) = delete;
    Leader& operator=(const Leader&) = delete;
    ~Leader() {
      if (flight_) end(Error(Errc::cancelled));
    }

    void end(Result<T> result) {
      const std::shared_ptr<Flight> flight = std::move(flight_);
      std::vector<std::shared_ptr<Waiter>> waiters;
      {
        const std::scoped_lock lock(owner_.mutex_);
        flight->abandoned = !result && result.error().code == Errc::cancelled;
        flight->result = std::move(result);
        waiters.swap(flight->waiters);
        owner_.flights_.erase(key_);
      }
      for (const auto& waiter : waiters) {
        runtime::asio::post(waiter->executor, [waiter] {
          waiter->woken = true;
          waiter->timer.cancel();
        });
      }
    }

   private:
    Flights& owner_;
    const std::string key_;
    std::shared_ptr<Flight> flight_;
  };

  mutable std::mutex mutex_;  // guards flights_ and the Flights
  std::unordered_map<std::string, std::shared_ptr<Flight>> flights_;
};

}  // namespace sluice::upstream

// Runner: a command's own event loop, on the calling thread, with an HTTP client. SIGINT and SIGTERM cancel what runs.
//
// Threads: main's alone.
#pragma once

#include <chrono>
#include <csignal>
#include <exception>
#include <optional>
#include <utility>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/system/system_error.hpp>

#include "base/result.hpp"
#include "http/client.hpp"
#include "runtime/loop.hpp"
#include "runtime/task.hpp"

namespace sluice::app {

class Runner {
 public:
  Runner() = default;
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Runs the task to its end. Errors: its own; cancelled, by a signal.
  template <class T>
  Result<T> run(runtime::Task<Result<T>> task) {
    std::optional<Result<T>> out;
    runtime::asio::co_spawn(
        loop_.get_executor(), std::move(task),
        runtime::asio::bind_cancellation_slot(cancel_.slot(), [&](std::exception_ptr failure, Result<T> result) {
          out.emplace(failure ? Result<T>(as_error(failure)) : std::move(result));
          loop_.stop();
        }));
    // Between two tasks a signal ends the program as it always does.
    signals_.emplace(static_cast<runtime::asio::io_context&>(loop_), SIGINT, SIGTERM);
    wait_for_signal();
    loop_.restart();
    loop_.run();
    signals_.reset();
    return std::move(*out);
  }

  // A signal has come.
  [[nodiscard]] bool interrupted() const noexcept { return interrupted_; }
  [[nodiscard]] runtime::Loop& loop() noexcept { return loop_; }
  [[nodiscard]] http::Client& client() noexcept { return client_; }

 private:
  static Error as_error(const std::exception_ptr& failure);
  void wait_for_signal();

  runtime::Loop loop_;
  std::optional<runtime::asio::signal_set> signals_;
  runtime::asio::cancellation_signal cancel_;
  bool interrupted_ = false;
  http::Client client_{http::Client::Params{}};
};

}  // namespace sluice::app

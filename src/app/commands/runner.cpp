#include "app/commands/runner.hpp"

#include <cstdlib>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/this_coro.hpp>

namespace sluice::app {
namespace {

constexpr int kExitInterrupted = 128 + SIGINT;

}  // namespace

void Runner::wait_for_signal() {
  signals_->async_wait([this](const boost::system::error_code& ec, int) {
    if (ec) return;
    // Whoever asks twice does not want to wait.
    if (interrupted_) std::_Exit(kExitInterrupted);
    interrupted_ = true;
    wait_for_signal();
    cancel_.emit(runtime::asio::cancellation_type::terminal);
  });
}

Error Runner::as_error(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const boost::system::system_error& error) {
    if (error.code() == runtime::asio::error::operation_aborted) return {Errc::cancelled, "interrupted"};
    return {Errc::internal, error.what()};
  } catch (const std::exception& error) {
    return {Errc::internal, error.what()};
  }
}

runtime::Task<void> sleep_for(std::chrono::milliseconds duration) {
  namespace asio = runtime::asio;
  const runtime::Executor executor = co_await asio::this_coro::executor;
  asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, runtime::Executor>
      timer(executor);
  timer.expires_after(duration);
  co_await timer.async_wait(runtime::kAwait);
}

}  // namespace sluice::app

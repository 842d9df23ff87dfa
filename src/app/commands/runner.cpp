#include "app/commands/runner.hpp"

#include <cstdlib>

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

}  // namespace sluice::app

// Timer: waits for a time of the steady clock on the loop of its executor. Asio's own alias has another executor.
#pragma once

#include <chrono>

#include <boost/asio/basic_waitable_timer.hpp>

#include "runtime/task.hpp"

namespace sluice::runtime {

using Timer =
    asio::basic_waitable_timer<std::chrono::steady_clock, asio::wait_traits<std::chrono::steady_clock>, Executor>;

}  // namespace sluice::runtime

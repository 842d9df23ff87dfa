// A task that does something again and again, until it is cancelled.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "runtime/task.hpp"

namespace sluice::runtime {

// Awaits `body()` every `interval`, for the first time after one, and waits for one again when it has ended. What it
// throws is logged under `name`, and it runs again the next time. Ends with a cancellation of this task alone.
Task<void> every(std::string name, std::chrono::nanoseconds interval, std::function<Task<void>()> body);

// Awaits `body` once; what it throws is logged under `name`, but for a cancellation of this task, which is passed on.
Task<void> attempt(std::string name, Task<void> body);

// Suspends for `duration`, by the steady clock. Throws operation_aborted when it is cancelled.
Task<void> sleep_for(std::chrono::nanoseconds duration);

}  // namespace sluice::runtime

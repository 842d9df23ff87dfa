// A change that all loops see at one moment.
#pragma once

#include <chrono>
#include <functional>

#include "base/result.hpp"
#include "runtime/loop.hpp"

namespace sluice::runtime {

// Runs `change` on the calling thread, which is none of the loops', while every loop stands still between two handlers.
// Errors: timeout (a loop did not come to rest in time; `change` was not run). Blocks.
Result<void> while_paused(LoopPool& loops, const std::function<void()>& change,
                          std::chrono::milliseconds patience = std::chrono::seconds{5});

}  // namespace sluice::runtime

// Upkeep that goes on: what runs again and again must outlive one time that fails with an exception (no memory, a path
// that cannot be converted, a bug), or it ends for good and nobody notices.
#pragma once

#include <exception>
#include <string_view>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::runtime {

// Calls `body`. What it throws is logged under `component` as an error; whether it threw nothing.
template <class F>
bool guarded(std::string_view component, F&& body) {
  try {
    body();
    return true;
  } catch (const std::exception& error) {
    log::error(component, fmt::format("background work failed: {}", error.what()));
    return false;
  }
}

}  // namespace sluice::runtime

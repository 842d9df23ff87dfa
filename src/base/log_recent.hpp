// The last warnings and errors of the program's log, for people who do not read the log (the status page).
//
// Thread-safe. Lines are kept whatever log.level says; they are masked and escaped as in the log.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "base/log.hpp"

namespace sluice::log {

struct RecentLine {
  std::chrono::system_clock::time_point at;  // the last time
  Level level = Level::warn;
  std::string component;
  std::string message;
  std::size_t times = 1;  // the same line in a row
};

inline constexpr std::size_t kRecentLines = 32;

// The newest first, at most kRecentLines.
std::vector<RecentLine> recent();

}  // namespace sluice::log

// RecurringLog: lines about what happens with each request for as long as its cause lasts, such as a registry's habit.
// The first line of a kind is written at its level, and then one in ten minutes, which tells how many were left out;
// those are written at debug. Counting what happened is for metrics.
//
// Thread-safe. The Clock outlives it. Bounded: of many kinds some may be told once more too often.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/log.hpp"
#include "base/sieve_map.hpp"

namespace sluice {

class RecurringLog {
 public:
  static constexpr std::chrono::minutes kQuiet{10};
  static constexpr std::size_t kMaxKinds = 1'000;

  explicit RecurringLog(const Clock& clock) : clock_(clock) {}

  // `kind`: what is told once for a while, such as an upstream's name and an Errc's.
  void write(log::Level level, std::string_view component, const std::string& kind, std::string_view message);

  // Whether a line of that kind is due, which it then counts as written: how many were left out before it.
  [[nodiscard]] std::optional<std::size_t> due(const std::string& kind);

 private:
  struct Told {
    Clock::Monotonic at;
    std::size_t left_out = 0;  // since then
  };

  const Clock& clock_;
  std::mutex mutex_;  // guards told_
  SieveMap<std::string, Told> told_{kMaxKinds};
};

}  // namespace sluice

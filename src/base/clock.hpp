// The time, injected so that tests set it by hand.
#pragma once

#include <atomic>
#include <chrono>

namespace sluice {

// Thread-safe. `now` never goes back; `wall` is what calendars show and may jump.
class Clock {
 public:
  using Monotonic = std::chrono::steady_clock::time_point;
  using Wall = std::chrono::system_clock::time_point;

  virtual ~Clock() = default;
  [[nodiscard]] virtual Monotonic now() const = 0;
  [[nodiscard]] virtual Wall wall() const = 0;
};

class SystemClock final : public Clock {
 public:
  [[nodiscard]] Monotonic now() const override;
  [[nodiscard]] Wall wall() const override;
};

// Stands still until a test moves it.
class ManualClock final : public Clock {
 public:
  [[nodiscard]] Monotonic now() const override;
  [[nodiscard]] Wall wall() const override;
  void advance(std::chrono::nanoseconds by);

 private:
  std::atomic<std::chrono::nanoseconds::rep> since_start_{0};
};

}  // namespace sluice

#include "base/clock.hpp"

namespace sluice {

Clock::Monotonic SystemClock::now() const { return std::chrono::steady_clock::now(); }
Clock::Wall SystemClock::wall() const { return std::chrono::system_clock::now(); }

namespace {
// Some days after the epoch, so that subtracting an age never goes below it.
constexpr std::chrono::hours kMonotonicStart{24 * 365};
constexpr std::chrono::hours kWallStart{24 * 365 * 50};
}  // namespace

Clock::Monotonic ManualClock::now() const {
  return Monotonic{kMonotonicStart + std::chrono::nanoseconds{since_start_.load()}};
}

Clock::Wall ManualClock::wall() const {
  return Wall{std::chrono::duration_cast<Wall::duration>(kWallStart + std::chrono::nanoseconds{since_start_.load()})};
}

void ManualClock::advance(std::chrono::nanoseconds by) { since_start_ += by.count(); }

}  // namespace sluice

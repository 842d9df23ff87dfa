#include "descriptors/redis_breaker.hpp"

#include <algorithm>

#include <fmt/format.h>

#include "base/log.hpp"
#include "base/units.hpp"

namespace sluice::descriptors {

RedisBreaker::RedisBreaker(const Params& params, const Clock& clock, metrics::Gauge& open, metrics::Counter& skipped)
    : params_(params),
      clock_(clock),
      open_gauge_(open),
      skipped_(skipped),
      pause_(params.first_pause),
      opened_at_(clock.now()),
      probe_at_(opened_at_),
      closed_at_(opened_at_) {}

RedisBreaker::Ticket RedisBreaker::admit() {
  if (closed()) return {true, false, epoch_.load(std::memory_order_acquire)};
  skipped_.add();
  Ticket refused;
  if (state_.load(std::memory_order_acquire) == State::probing) return refused;
  const std::scoped_lock lock(mutex_);
  if (state_ != State::open || clock_.now() < probe_at_) return refused;
  state_ = State::probing;
  refused.probe = true;
  return refused;
}

void RedisBreaker::succeeded(std::uint64_t epoch) noexcept {
  if (nonsense_in_a_row_.load(std::memory_order_relaxed) == 0) return;
  if (epoch == epoch_.load(std::memory_order_acquire)) nonsense_in_a_row_.store(0, std::memory_order_relaxed);
}

void RedisBreaker::failed(std::uint64_t epoch, std::string_view why) {
  const std::scoped_lock lock(mutex_);
  if (state_ == State::closed && epoch == epoch_) open(why);
}

void RedisBreaker::nonsense(std::uint64_t epoch, std::string_view why) {
  if (nonsense_in_a_row_.fetch_add(1, std::memory_order_relaxed) + 1 >= params_.nonsense_limit) failed(epoch, why);
}

void RedisBreaker::probe_succeeded() {
  if (closed()) return;
  const std::scoped_lock lock(mutex_);
  if (state_ == State::closed) return;
  closed_at_ = clock_.now();
  state_.store(State::closed, std::memory_order_release);
  open_gauge_.set(0);
  log::info("descriptors",
            fmt::format("Redis answers again after {}; {} requests bypassed it",
                        format_duration(std::chrono::duration_cast<std::chrono::milliseconds>(closed_at_ - opened_at_)),
                        skipped_.value() - skipped_before_));
}

void RedisBreaker::probe_failed() {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::probing) return;
  pause_ = std::min(pause_ * 2, params_.last_pause);
  probe_at_ = clock_.now() + jittered();
  state_.store(State::open, std::memory_order_release);
}

// With mutex_ held.
void RedisBreaker::open(std::string_view why) {
  opened_at_ = clock_.now();
  // A Redis that greets properly and then fails must not be tried four times a second: the pause shrinks only after
  // a time in which it held.
  const bool held = epoch_ == 0 || opened_at_ - closed_at_ >= 2 * pause_;
  pause_ = held ? params_.first_pause : std::min(pause_ * 2, params_.last_pause);
  probe_at_ = opened_at_ + jittered();
  nonsense_in_a_row_.store(0, std::memory_order_relaxed);
  skipped_before_ = skipped_.value();
  epoch_.fetch_add(1, std::memory_order_release);
  state_.store(State::open, std::memory_order_release);
  open_gauge_.set(1);
  log::warn("descriptors", fmt::format("Redis unavailable, bypassing it until it answers: {}", why));
}

std::chrono::nanoseconds RedisBreaker::jittered() {
  // So that many instances do not knock at the same moment.
  std::uniform_real_distribution<double> factor(0.75, 1.25);
  return std::chrono::duration_cast<std::chrono::nanoseconds>(pause_ * factor(random_));
}

}  // namespace sluice::descriptors

#include "upstream/breaker.hpp"

#include <algorithm>

namespace sluice::upstream {

Breaker::Permit::~Permit() {
  if (breaker_ != nullptr) breaker_->give_up(probe_.has_value());
}

bool Breaker::Permit::succeeded() {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return false;
  const std::scoped_lock lock(breaker->mutex_);
  breaker->last_success_ = breaker->clock_.now();
  breaker->failures_ = 0;
  breaker->probes_failed_ = 0;
  // Also one that had begun before it opened: it shows as much as a probe.
  return std::exchange(breaker->state_, State::closed) != State::closed;
}

bool Breaker::Permit::failed(Failure failure) {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return false;
  const std::scoped_lock lock(breaker->mutex_);
  if (breaker->state_ == State::probing && probe_) {
    ++breaker->probes_failed_;
    breaker->state_ = State::open;
    breaker->next_probe_ = breaker->clock_.now() + breaker->pause();
    return false;
  }
  const bool nothing_since = !breaker->last_success_ || *breaker->last_success_ <= begun_;
  return breaker->open_if_due(failure == Failure::timeout && nothing_since);
}

bool Breaker::note_failure() {
  const std::scoped_lock lock(mutex_);
  return open_if_due(false);
}

// Under the lock.
bool Breaker::open_if_due(bool at_once) {
  if (state_ != State::closed) return false;
  ++failures_;
  if (!at_once && failures_ < params_.threshold) return false;
  state_ = State::open;
  probes_failed_ = 0;
  next_probe_ = clock_.now() + pause();
  return true;
}

std::optional<Breaker::Permit> Breaker::enter() {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic now = clock_.now();
  switch (state_) {
    case State::closed: return Permit(*this, now, std::nullopt);
    case State::open:
      if (now < next_probe_) return std::nullopt;
      state_ = State::probing;
      return Permit(*this, now, probes_failed_);
    case State::probing: break;
  }
  return std::nullopt;
}

bool Breaker::is_closed() const {
  const std::scoped_lock lock(mutex_);
  return state_ == State::closed;
}

std::chrono::nanoseconds Breaker::pause_left() const {
  const std::scoped_lock lock(mutex_);
  switch (state_) {
    case State::closed: return {};
    case State::open: return std::max<std::chrono::nanoseconds>(next_probe_ - clock_.now(), {});
    case State::probing: break;
  }
  return pause();
}

std::chrono::nanoseconds Breaker::pause() const {
  const auto doubled = params_.first_pause * (std::int64_t{1} << std::min<std::size_t>(probes_failed_, 20));
  return std::min<std::chrono::nanoseconds>(doubled, params_.longest_pause);
}

// A probe that was cancelled has told nothing: the next request may be one.
void Breaker::give_up(bool probe) noexcept {
  if (!probe) return;
  const std::scoped_lock lock(mutex_);
  if (state_ != State::probing) return;
  state_ = State::open;
  next_probe_ = clock_.now();
}

}  // namespace sluice::upstream

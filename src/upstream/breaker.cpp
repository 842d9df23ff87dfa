#include "upstream/breaker.hpp"

#include <algorithm>

namespace sluice::upstream {

Breaker::Permit::~Permit() {
  if (breaker_ != nullptr && role_ == Role::alone) breaker_->give_up();
}

bool Breaker::Permit::succeeded() {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return false;
  const std::scoped_lock lock(breaker->mutex_);
  breaker->last_success_ = breaker->clock_.now();
  breaker->failed_.clear();
  breaker->silent_.clear();
  breaker->unconnected_ = 0;
  breaker->probes_failed_ = 0;
  breaker->spares_others_ = false;
  breaker->resting_.erase(thing_);
  // Also one that had begun before it opened: it shows as much as a probe.
  return std::exchange(breaker->state_, State::closed) != State::closed;
}

bool Breaker::Permit::failed(Failure failure) {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return false;
  const std::scoped_lock lock(breaker->mutex_);
  if (breaker->state_ == State::probing && role_ == Role::alone) {
    ++breaker->probes_failed_;
    breaker->spares_others_ = false;
    breaker->state_ = State::open;
    breaker->next_probe_ = breaker->clock_.now() + breaker->params_.pause(breaker->probes_failed_);
    return false;
  }
  if (breaker->state_ == State::open && failure == Failure::silence && breaker->silent_.size() < kMaxResting) {
    breaker->silent_.insert(thing_);
  }
  // Asked for because it had never been silent: now nothing says that others will not be.
  if (breaker->state_ == State::open && role_ == Role::spared) breaker->spares_others_ = false;
  const bool nothing_since = !breaker->last_success_ || *breaker->last_success_ <= begun_;
  return breaker->count(failure, thing_, nothing_since);
}

Breaker::Check::~Check() {
  if (breaker_ == nullptr) return;
  const std::scoped_lock lock(breaker_->mutex_);
  breaker_->checking_ = false;
}

void Breaker::Check::answers() {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return;
  const std::scoped_lock lock(breaker->mutex_);
  breaker->checking_ = false;
  breaker->next_check_ = breaker->clock_.now() + breaker->params_.first_pause;
  if (breaker->state_ != State::closed) return;
  breaker->failed_.clear();
  breaker->silent_.clear();
  breaker->unconnected_ = 0;
}

bool Breaker::Check::fails() {
  Breaker* const breaker = std::exchange(breaker_, nullptr);
  if (breaker == nullptr) return false;
  const std::scoped_lock lock(breaker->mutex_);
  breaker->checking_ = false;
  // Something may have succeeded meanwhile, or something else has opened it.
  return breaker->state_ == State::closed && breaker->has_reason() && breaker->open();
}

std::optional<Breaker::Check> Breaker::begin_check() {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::closed || checking_ || !has_reason() || clock_.now() < next_check_) return std::nullopt;
  checking_ = true;
  return Check(*this);
}

bool Breaker::absolve() {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::open) return false;
  silent_.clear();
  spares_others_ = false;
  state_ = State::closed;
  return true;
}

void Breaker::note_failure(Thing thing) {
  const std::scoped_lock lock(mutex_);
  count(Failure::answer, thing, false);
}

// Under the lock.
bool Breaker::count(Failure failure, Thing thing, bool nothing_since) {
  if (state_ != State::closed) return false;
  if (failure == Failure::connect_timeout && nothing_since) return open();
  if (failure == Failure::no_connection || failure == Failure::connect_timeout) {
    ++unconnected_;
  } else {
    if (failed_.size() < kMaxFailed) failed_.insert(thing);
    if (failure == Failure::silence && nothing_since) silent_.insert(thing);
  }
  // Failures by answers are left to a Check.
  if (silent_.size() < params_.silent_limit && unconnected_ < params_.threshold) return false;
  spares_others_ = silent_.size() >= params_.silent_limit;
  return open();
}

// Under the lock.
bool Breaker::open() {
  state_ = State::open;
  failed_.clear();
  unconnected_ = 0;
  next_probe_ = clock_.now() + params_.pause(probes_failed_);
  return true;
}

std::optional<Breaker::Permit> Breaker::enter(Thing thing, bool again) {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic now = clock_.now();
  switch (state_) {
    case State::closed: {
      const auto rests = resting_.find(thing);
      if (rests == resting_.end()) return Permit(*this, now, thing, std::nullopt, Permit::Role::usual);
      if (now < rests->second.until && !again) return std::nullopt;
      return Permit(*this, now, thing, rests->second.times - 1, Permit::Role::usual);
    }
    case State::open:
      if (spares_others_ && !silent_.contains(thing)) return Permit(*this, now, thing, 0, Permit::Role::spared);
      if (now < next_probe_) return std::nullopt;
      state_ = State::probing;
      return Permit(*this, now, thing, probes_failed_, Permit::Role::alone);
    case State::probing: break;
  }
  return std::nullopt;
}

Breaker::Permit Breaker::watch(Thing thing) {
  const std::scoped_lock lock(mutex_);
  return {*this, clock_.now(), thing, std::nullopt, Permit::Role::usual};
}

bool Breaker::is_closed() const {
  const std::scoped_lock lock(mutex_);
  return state_ == State::closed;
}

bool Breaker::is_down() const {
  const std::scoped_lock lock(mutex_);
  return state_ != State::closed && !spares_others_;
}

std::chrono::nanoseconds Breaker::pause_left(Thing thing) const {
  const std::scoped_lock lock(mutex_);
  switch (state_) {
    case State::closed: {
      const auto rests = resting_.find(thing);
      if (rests == resting_.end()) return {};
      return std::max<std::chrono::nanoseconds>(rests->second.until - clock_.now(), {});
    }
    case State::open: return std::max<std::chrono::nanoseconds>(next_probe_ - clock_.now(), {});
    case State::probing: break;
  }
  return params_.pause(probes_failed_);
}

void Breaker::rest(Thing thing) {
  const std::scoped_lock lock(mutex_);
  // Only a shortcut: which one goes does not matter.
  if (resting_.size() >= kMaxResting && !resting_.contains(thing)) resting_.erase(resting_.begin());
  Rest& rest = resting_[thing];
  rest.until = clock_.now() + params_.pause(rest.times);
  ++rest.times;
}

// A probe that was cancelled has told nothing: the next request may be one.
void Breaker::give_up() noexcept {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::probing) return;
  state_ = State::open;
  next_probe_ = clock_.now();
}

}  // namespace sluice::upstream

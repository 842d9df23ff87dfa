#include "runtime/deadline.hpp"

#include "runtime/loop.hpp"
#include "runtime/timer.hpp"

namespace sluice::runtime {

struct Deadlines::Timer {
  explicit Timer(Loop& loop) : timer(loop) {}
  runtime::Timer timer;
};

Deadlines::Deadlines(Loop& loop, std::chrono::milliseconds tick) : tick_(tick), timer_(std::make_unique<Timer>(loop)) {}

Deadlines::~Deadlines() = default;

void Deadlines::add(Deadline& deadline) noexcept {
  deadline.next_ = first_;
  if (first_ != nullptr) first_->previous_ = &deadline;
  first_ = &deadline;
}

void Deadlines::remove(Deadline& deadline) noexcept {
  if (next_in_sweep_ == &deadline) next_in_sweep_ = deadline.next_;
  if (deadline.previous_ != nullptr) deadline.previous_->next_ = deadline.next_;
  if (deadline.next_ != nullptr) deadline.next_->previous_ = deadline.previous_;
  if (first_ == &deadline) first_ = deadline.next_;
}

void Deadlines::schedule() {
  if (scheduled_) return;
  scheduled_ = true;
  timer_->timer.expires_after(tick_);
  timer_->timer.async_wait([this](const boost::system::error_code& ec) {
    if (ec) return;
    scheduled_ = false;
    sweep();
  });
}

void Deadlines::sweep() {
  const auto now = std::chrono::steady_clock::now();
  bool armed = false;
  for (Deadline* at = first_; at != nullptr; at = next_in_sweep_) {
    next_in_sweep_ = at->next_;
    if (at->at_ == Deadline::kNever) continue;
    if (at->at_ > now) {
      armed = true;
      continue;
    }
    at->at_ = Deadline::kNever;
    at->expired_ = true;
    // A copy, because the callback may destroy the deadline.
    const std::function<void()> on_expiry = at->on_expiry_;
    on_expiry();
  }
  next_in_sweep_ = nullptr;
  // With nothing armed the timer rests; the next arm() starts it again.
  if (armed) schedule();
}

Deadline::Deadline(Loop& loop, std::function<void()> on_expiry)
    : deadlines_(loop.deadlines()), on_expiry_(std::move(on_expiry)) {
  deadlines_.add(*this);
}

Deadline::~Deadline() { deadlines_.remove(*this); }

void Deadline::arm(Duration duration) {
  expired_ = false;
  if (duration <= Duration::zero()) {
    at_ = kNever;
    return;
  }
  const auto now = std::chrono::steady_clock::now();
  at_ = duration > kNever - now ? kNever : now + duration;
  deadlines_.schedule();
}

}  // namespace sluice::runtime

#include "upstream/silence.hpp"

#include <algorithm>
#include <utility>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include "runtime/timer.hpp"

namespace sluice::upstream {

namespace asio = runtime::asio;

// Its timer is touched on its own loop alone.
struct Silence::Waiter {
  explicit Waiter(const runtime::Executor& on) : executor(on), timer(on) {
    timer.expires_at(std::chrono::steady_clock::time_point::max());
  }
  const runtime::Executor executor;
  runtime::Timer timer;
};

// Among those that wait, however the wait ends.
class Silence::Place {
 public:
  Place(Silence& in, std::shared_ptr<Waiter> waiter) : in_(in), waiter_(std::move(waiter)) {
    const std::scoped_lock lock(in_.mutex_);
    in_.waiters_.push_back(waiter_);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() {
    const std::scoped_lock lock(in_.mutex_);
    std::erase(in_.waiters_, waiter_);
  }

 private:
  Silence& in_;
  const std::shared_ptr<Waiter> waiter_;
};

bool Silence::is_well() const {
  const std::scoped_lock lock(mutex_);
  return state_ == State::well;
}

bool Silence::is_on_trial() const {
  const std::scoped_lock lock(mutex_);
  return state_ == State::on_trial;
}

bool Silence::goes_first() {
  const std::scoped_lock lock(mutex_);
  if (state_ == State::well) return true;
  if (state_ == State::silent || clock_.now() < next_trial_) return false;
  next_trial_ = clock_.now() + params_.first_pause;
  return true;
}

bool Silence::note() {
  const std::scoped_lock lock(mutex_);
  // Of those that were asked at the same time only the first counts.
  if (state_ != State::silent) ++times_;
  state_ = State::silent;
  return !std::exchange(is_asked_, true);
}

void Silence::heard() {
  const std::scoped_lock lock(mutex_);
  state_ = State::well;
  times_ = 0;
}

void Silence::answers_plain() {
  const std::scoped_lock lock(mutex_);
  if (state_ != State::silent) return;
  state_ = State::on_trial;
  next_trial_ = clock_.now();
  if (times_ >= 2) next_trial_ += params_.pause(times_ - 2);
}

bool Silence::goes_on() {
  const std::scoped_lock lock(mutex_);
  return is_asked_ = state_ == State::silent;
}

runtime::Task<void> Silence::found() {
  const auto waiter = std::make_shared<Waiter>(co_await asio::this_coro::executor);
  const Place place(*this, waiter);
  co_await waiter->timer.async_wait(runtime::kAwaitTuple);
}

void Silence::wake() {
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    const std::scoped_lock lock(mutex_);
    waiters = waiters_;
  }
  for (const auto& waiter : waiters) {
    asio::post(waiter->executor, [waiter] { waiter->timer.cancel(); });
  }
}

}  // namespace sluice::upstream

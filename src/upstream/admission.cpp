#include "upstream/admission.hpp"

#include <algorithm>

#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

namespace sluice::upstream {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

std::size_t index(Lane lane) { return lane == Lane::light ? 0 : 1; }
Lane other(Lane lane) { return lane == Lane::light ? Lane::heavy : Lane::light; }

std::size_t reserve_of(std::size_t slots) { return slots < 2 ? 0 : std::max<std::size_t>(slots / 8, 1); }

}  // namespace

// -------------------------------------------------------------------------------------------------------------- rules

AdmissionRules::AdmissionRules(const Params& params, Clock::Monotonic now)
    : params_(params),
      reserved_(reserve_of(params.slots)),
      tokens_(std::max(params.per_second, 1.0)),
      filled_at_(now) {}

void AdmissionRules::refill(Clock::Monotonic now) {
  const double seconds = std::chrono::duration<double>(now - filled_at_).count();
  tokens_ = std::min(tokens_ + seconds * params_.per_second, std::max(params_.per_second, 1.0));
  filled_at_ = now;
}

bool AdmissionRules::begin(Lane lane, bool others_wait, Clock::Monotonic now) {
  const std::size_t slots = std::max<std::size_t>(params_.slots, 1);
  if (active_[0] + active_[1] >= slots) return false;
  if (lane == Lane::heavy && active_[1] + reserved_ >= slots) return false;
  if (params_.per_second > 0) {
    refill(now);
    if (tokens_ < 1) return false;
    tokens_ -= 1;
  }
  ++active_[index(lane)];
  in_a_row_ = lane == Lane::light && others_wait ? in_a_row_ + 1 : 0;
  return true;
}

void AdmissionRules::end(Lane lane) noexcept { --active_[index(lane)]; }

std::chrono::nanoseconds AdmissionRules::until_next(Clock::Monotonic now) {
  if (params_.per_second <= 0) return {};
  refill(now);
  if (tokens_ >= 1) return {};
  return std::chrono::ceil<std::chrono::nanoseconds>(std::chrono::duration<double>((1 - tokens_) / params_.per_second));
}

// ------------------------------------------------------------------------------------------------------------ waiting

// Its timer is touched on its own loop alone; the flags under the lock.
struct Admission::Waiter {
  explicit Waiter(const runtime::Executor& on) : executor(on), timer(on) {}
  const runtime::Executor executor;
  asio::basic_waitable_timer<steady_clock, asio::wait_traits<steady_clock>, runtime::Executor> timer;
  bool granted = false;
  bool woken = false;  // on its loop's thread
};

Admission::Admission(const Params& params, const Clock& clock, metrics::Histogram* wait_seconds,
                     metrics::Gauge* waiting)
    : params_(params),
      clock_(clock),
      wait_seconds_(wait_seconds),
      waiting_(waiting),
      rules_(params.rules, clock.now()) {}

Admission::~Admission() = default;

// Under the lock.
bool Admission::begin(Lane lane) { return rules_.begin(lane, !queues_[index(other(lane))].empty(), clock_.now()); }

void Admission::leave(Lane lane) {
  const std::scoped_lock lock(mutex_);
  rules_.end(lane);
  wake_next();
}

// Under the lock. When somebody who waits should look whether the rate has made room; zero when there is none. Also
// when it is slots that are missing now: who leaves may leave a slot to a rate that is spent.
std::chrono::nanoseconds Admission::next_look() {
  if (params_.rules.per_second <= 0) return {};
  const std::chrono::nanoseconds next = rules_.until_next(clock_.now());
  return next.count() == 0 ? std::chrono::milliseconds(100)
                           : std::max<std::chrono::nanoseconds>(next, std::chrono::milliseconds(1));
}

// Under the lock. Lets in whoever may begin.
void Admission::wake_next() {
  while (true) {
    const Lane first = rules_.preferred();
    bool begun = false;
    for (const Lane lane : {first, other(first)}) {
      Queue& queue = queues_[index(lane)];
      if (queue.empty() || !begin(lane)) continue;
      const std::shared_ptr<Waiter> waiter = std::move(queue.front());
      queue.pop_front();
      waiter->granted = true;
      asio::post(waiter->executor, [waiter] {
        waiter->woken = true;
        waiter->timer.cancel();
      });
      begun = true;
      break;
    }
    if (!begun) return;
  }
}

runtime::Task<Result<Admission::Turn>> Admission::enter(Lane lane) {
  const Clock::Monotonic came = clock_.now();
  {
    const std::scoped_lock lock(mutex_);
    if (queues_[index(lane)].empty() && begin(lane)) {
      if (wait_seconds_ != nullptr) wait_seconds_->observe(0);
      co_return Turn(*this, lane);
    }
  }
  // However this ends, also when the task is unwound.
  struct Membership {
    Admission& owner;
    Lane lane;
    std::shared_ptr<Waiter> waiter;
    bool taken = false;
    ~Membership() {
      const std::scoped_lock lock(owner.mutex_);
      if (!waiter->granted) std::erase(owner.queues_[index(lane)], waiter);
      if (waiter->granted && !taken) owner.rules_.end(lane);
      if (!taken) owner.wake_next();
    }
  };
  Membership member{*this, lane, std::make_shared<Waiter>(co_await asio::this_coro::executor)};
  Waiter& waiter = *member.waiter;
  std::optional<metrics::GaugeGuard> counted;
  if (waiting_ != nullptr) counted.emplace(*waiting_);
  const auto until = steady_clock::now() + params_.patience;
  std::chrono::nanoseconds pause{0};
  {
    const std::scoped_lock lock(mutex_);
    queues_[index(lane)].push_back(member.waiter);
    pause = next_look();
  }
  while (true) {
    waiter.timer.expires_at(pause.count() > 0 ? std::min(until, steady_clock::now() + pause) : until);
    if (!waiter.woken) co_await waiter.timer.async_wait(runtime::kAwaitTuple);
    const bool expired = steady_clock::now() >= until;
    const bool by_timer = waiter.timer.expiry() <= steady_clock::now();
    {
      const std::scoped_lock lock(mutex_);
      // The rate may have made room without anybody leaving.
      if (!waiter.granted && by_timer) wake_next();
      if (waiter.granted) {
        member.taken = true;
        if (wait_seconds_ != nullptr) {
          wait_seconds_->observe(std::chrono::duration<double>(clock_.now() - came).count());
        }
        co_return Turn(*this, lane);
      }
      if (!expired && by_timer) {
        pause = next_look();
        continue;
      }
    }
    if (!expired) co_return Error(Errc::cancelled, "cancelled while waiting for a turn");
    co_return Error(Errc::overloaded, "too many requests to this upstream are under way; no turn came in time");
  }
}

}  // namespace sluice::upstream

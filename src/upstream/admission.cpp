#include "upstream/admission.hpp"

#include <algorithm>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <fmt/format.h>

#include "runtime/timer.hpp"

namespace sluice::upstream {
namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;

std::size_t index(Lane lane) { return static_cast<std::size_t>(lane); }

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
  if (!has_slot(lane) || (lane == Lane::ahead && others_wait)) return false;
  if (params_.per_second > 0) {
    refill(now);
    // What nobody waits for leaves half of what may come at once to the others.
    if (tokens_ < (lane == Lane::ahead ? std::max(params_.per_second / 2, 1.0) : 1.0)) return false;
    tokens_ -= 1;
  }
  ++active_[index(lane)];
  in_a_row_ = lane == Lane::light && others_wait ? in_a_row_ + 1 : 0;
  return true;
}

void AdmissionRules::end(Lane lane) noexcept { --active_[index(lane)]; }

void AdmissionRules::move(Lane from, Lane to) noexcept {
  --active_[index(from)];
  ++active_[index(to)];
}

bool AdmissionRules::has_slot(Lane lane) const noexcept {
  const std::size_t slots = std::max<std::size_t>(params_.slots, 1);
  const std::size_t ahead = active_[index(Lane::ahead)];
  const std::size_t blobs = active_[index(Lane::heavy)] + ahead;
  if (active_[index(Lane::light)] + blobs >= slots) return false;
  if (lane == Lane::light) return true;
  return blobs + reserved_ < slots && (lane == Lane::heavy || ahead < std::max<std::size_t>(slots / 2, 1));
}

std::chrono::nanoseconds AdmissionRules::until_next(Clock::Monotonic now) {
  if (params_.per_second <= 0) return {};
  refill(now);
  if (tokens_ >= 1) return {};
  return std::chrono::ceil<std::chrono::nanoseconds>(std::chrono::duration<double>((1 - tokens_) / params_.per_second));
}

// ------------------------------------------------------------------------------------------------------------ waiting

// Its timer is touched on its own loop alone; the flags under the lock.
struct Admission::Waiter {
  Waiter(const runtime::Executor& on, Lane waits_in, Lane when_raised, std::shared_ptr<Urgency> of,
         const IpAddress& for_client)
      : executor(on), timer(on), urgency(std::move(of)), client(for_client), raised(when_raised), lane(waits_in) {}
  const runtime::Executor executor;
  runtime::Timer timer;
  const std::shared_ptr<Urgency> urgency;
  const IpAddress client;
  const Lane raised;  // where it waits when it is raised
  Lane lane;
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
bool Admission::begin(Lane lane, Lane raised, const std::shared_ptr<Urgency>& urgency) {
  const bool others_wait = (lane != Lane::light && !queues_[index(Lane::light)].empty()) ||
                           (lane != Lane::heavy && !queues_[index(Lane::heavy)].empty());
  if (!rules_.begin(lane, others_wait, clock_.now())) return false;
  if (lane == Lane::ahead) {
    urgency->yield_.store(false, std::memory_order_release);
    ahead_.push_back({urgency, raised == Lane::heavy});
  }
  return true;
}

// Under the lock.
std::vector<Admission::Ahead>::iterator Admission::find_ahead(const std::shared_ptr<Urgency>& urgency) {
  return std::find_if(ahead_.begin(), ahead_.end(), [&](const Ahead& ahead) { return ahead.urgency == urgency; });
}

// To give a slot back does not help those who wait for the rate.
bool Admission::is_wanted() {
  const std::scoped_lock lock(mutex_);
  const auto lacks_slot = [this](Lane lane) { return !queues_[index(lane)].empty() && !rules_.has_slot(lane); };
  return lacks_slot(Lane::light) || lacks_slot(Lane::heavy);
}

void Admission::leave(Lane lane, const std::shared_ptr<Urgency>& urgency) {
  if (urgency) urgency->hold(nullptr, false);
  const std::scoped_lock lock(mutex_);
  end(lane, urgency);
  wake_next();
}

// Under the lock. One that was lowered meanwhile is counted as one ahead.
void Admission::end(Lane lane, const std::shared_ptr<Urgency>& urgency) {
  const auto at = urgency ? find_ahead(urgency) : ahead_.end();
  rules_.end(at != ahead_.end() ? Lane::ahead : lane);
  if (at != ahead_.end()) ahead_.erase(at);
}

// Without the lock.
Admission::Turn Admission::make_turn(Lane lane, const std::shared_ptr<Urgency>& urgency) {
  // It is called while it holds the turn alone, so as long as `urgency` lives.
  if (urgency) {
    urgency->hold([this, lane, of = std::weak_ptr(urgency)] { lower(of.lock(), lane); }, lane != Lane::ahead);
  }
  return Turn(*this, lane, urgency);
}

// Nobody waits any more for what a turn of that lane is used for. Called with the lock of its Urgency.
void Admission::lower(const std::shared_ptr<Urgency>& urgency, Lane lane) {
  if (!urgency) return;
  const std::scoped_lock lock(mutex_);
  if (find_ahead(urgency) == ahead_.end()) {
    rules_.move(lane, Lane::ahead);
    ahead_.push_back({urgency, lane == Lane::heavy});
  }
  urgency->yield_.store(false, std::memory_order_release);
  for (const Lane waiting : {Lane::light, Lane::heavy}) {
    if (!queues_[index(waiting)].empty()) ask_to_yield(waiting);
  }
}

// Under the lock. Somebody is about to wait for a slot: the one ahead that came last, and has got least, makes room.
void Admission::ask_to_yield(Lane lane) {
  if (lane == Lane::ahead || rules_.has_slot(lane)) return;
  for (auto at = ahead_.rbegin(); at != ahead_.rend(); ++at) {
    if (at->yields && at->urgency->ask_to_yield()) return;
  }
}

// A request ahead that waits is waited for now. Called with the lock of its Urgency.
void Admission::hurry(const std::shared_ptr<Waiter>& waiter) {
  const std::scoped_lock lock(mutex_);
  if (waiter->granted || !queues_[index(Lane::ahead)].erase(waiter->client, waiter)) return;
  queues_[index(waiter->raised)].push(waiter->client, waiter);
  waiter->lane = waiter->raised;
  ask_to_yield(waiter->lane);
  wake_next();
  // It looks at its new lane, if it has not been let in.
  asio::post(waiter->executor, [waiter] { waiter->timer.cancel(); });
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
    const Lane second = first == Lane::light ? Lane::heavy : Lane::light;
    bool begun = false;
    for (const Lane lane : {first, second, Lane::ahead}) {
      Queue& queue = queues_[index(lane)];
      if (queue.empty() || !begin(lane, queue.front()->raised, queue.front()->urgency)) continue;
      const std::shared_ptr<Waiter> waiter = std::move(queue.front());
      queue.pop();
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

// Counts a waiter in and, however its wait ends, out again.
class Admission::Membership {
 public:
  Membership(Admission& owner, std::shared_ptr<Waiter> waiter) : owner_(owner), waiter_(std::move(waiter)) {}
  Membership(const Membership&) = delete;
  Membership& operator=(const Membership&) = delete;
  ~Membership() {
    if (waiter_->urgency) waiter_->urgency->listen(nullptr);
    const std::scoped_lock lock(owner_.mutex_);
    if (!waiter_->granted) owner_.queues_[index(waiter_->lane)].erase(waiter_->client, waiter_);
    if (waiter_->granted && !taken_) owner_.end(waiter_->lane, waiter_->urgency);
    if (!taken_) owner_.wake_next();
  }

  // When to look whether there is a turn, though nobody says so; zero: never.
  std::chrono::nanoseconds queue_up() {
    std::chrono::nanoseconds pause{0};
    {
      const std::scoped_lock lock(owner_.mutex_);
      owner_.queues_[index(waiter_->lane)].push(waiter_->client, waiter_);
      // Who has left since it was refused has woken nobody.
      owner_.wake_next();
      if (!waiter_->granted) owner_.ask_to_yield(waiter_->lane);
      pause = owner_.next_look();
    }
    if (waiter_->urgency) {
      waiter_->urgency->listen([owner = &owner_, waiter = waiter_] { owner->hurry(waiter); });
    }
    return pause;
  }
  void take() noexcept { taken_ = true; }

 private:
  Admission& owner_;
  const std::shared_ptr<Waiter> waiter_;
  bool taken_ = false;
};

runtime::Task<Result<Admission::Turn>> Admission::enter(Lane lane, std::shared_ptr<Urgency> urgency,
                                                        std::optional<steady_clock::time_point> latest,
                                                        IpAddress client) {
  const Clock::Monotonic came = clock_.now();
  const Lane raised = lane;
  if (urgency && !urgency->raised()) lane = Lane::ahead;
  bool begun = false;
  {
    const std::scoped_lock lock(mutex_);
    begun = queues_[index(lane)].empty() && begin(lane, raised, urgency);
  }
  if (begun) {
    if (wait_seconds_ != nullptr) wait_seconds_->observe(0);
    co_return make_turn(lane, urgency);
  }
  const auto waiter = std::make_shared<Waiter>(co_await asio::this_coro::executor, lane, raised, urgency, client);
  Membership member(*this, waiter);
  std::optional<metrics::GaugeGuard> counted;
  if (waiting_ != nullptr) counted.emplace(*waiting_);
  const auto patience_ends = [this, latest] {
    const steady_clock::time_point end = steady_clock::now() + params_.patience;
    return latest ? std::min(end, *latest) : end;
  };
  auto until = patience_ends();
  std::chrono::nanoseconds pause = member.queue_up();
  while (true) {
    waiter->timer.expires_at(pause.count() > 0 ? std::min(until, steady_clock::now() + pause) : until);
    if (!waiter->woken) co_await waiter->timer.async_wait(runtime::kAwaitTuple);
    const bool expired = steady_clock::now() >= until;
    const bool by_timer = waiter->timer.expiry() <= steady_clock::now();
    const bool cancelled = (co_await asio::this_coro::cancellation_state).cancelled() != asio::cancellation_type::none;
    bool granted = false;
    {
      const std::scoped_lock lock(mutex_);
      // The rate may have made room without anybody leaving.
      if (!waiter->granted && by_timer) wake_next();
      granted = waiter->granted;
      if (granted) member.take();
      if (const bool hurried = std::exchange(lane, waiter->lane) != waiter->lane; hurried && !granted) {
        until = patience_ends();
        pause = next_look();
        continue;
      }
      // Also where neither the time nor a turn has come: what was to wake it for its new lane may come after it has
      // gone there by itself.
      if (!granted && !expired && !cancelled) {
        pause = next_look();
        continue;
      }
    }
    if (granted) {
      if (wait_seconds_ != nullptr) {
        wait_seconds_->observe(std::chrono::duration<double>(clock_.now() - came).count());
      }
      co_return make_turn(waiter->lane, urgency);
    }
    if (!expired) co_return Error(Errc::cancelled, "cancelled while waiting for a turn");
    co_return Error(Errc::overloaded, "too many requests to this upstream are running; timed out waiting for a turn");
  }
}

// ------------------------------------------------------------------------------------------------------------ urgency

void Urgency::raise() {
  const std::scoped_lock lock(mutex_);
  if (raised_.exchange(true, std::memory_order_acq_rel)) return;
  if (on_raised_) on_raised_();
}

void Urgency::lower() {
  const std::scoped_lock lock(mutex_);
  if (!raised_.exchange(false, std::memory_order_acq_rel)) return;
  if (on_lowered_) on_lowered_();
}

void Urgency::hold(std::function<void()> on_lowered, bool at_once) {
  const std::scoped_lock lock(mutex_);
  on_lowered_ = std::move(on_lowered);
  if (on_lowered_ && at_once && !raised()) on_lowered_();
}

void Urgency::listen(std::function<void()> on_raised) {
  const std::scoped_lock lock(mutex_);
  on_raised_ = std::move(on_raised);
  if (on_raised_ && raised()) on_raised_();
}

}  // namespace sluice::upstream

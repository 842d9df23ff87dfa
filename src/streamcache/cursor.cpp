#include "streamcache/cursor.hpp"

#include <algorithm>
#include <limits>
#include <mutex>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

namespace sluice::streamcache {
namespace {

// How many waiters a loop wakes before others have their turn.
constexpr int kWokenInATurn = 8;

// The handler of one suspended coroutine, in place: no allocation for a wait.
class Resumption {
 public:
  Resumption() noexcept = default;
  Resumption(const Resumption&) = delete;
  Resumption& operator=(const Resumption&) = delete;
  ~Resumption() {
    if (destroy_ != nullptr) destroy_(storage_);
  }

  template <class Handler>
  void emplace(Handler handler) {
    static_assert(sizeof(Handler) <= sizeof storage_ && std::is_nothrow_move_constructible_v<Handler>);
    ::new (static_cast<void*>(storage_)) Handler(std::move(handler));
    invoke_ = [](void* at) {
      Handler taken(std::move(*static_cast<Handler*>(at)));
      static_cast<Handler*>(at)->~Handler();
      std::move(taken)();
    };
    destroy_ = [](void* at) { static_cast<Handler*>(at)->~Handler(); };
  }

  // Resumes. This object is gone afterwards: it stands in the frame of the coroutine.
  void operator()() {
    destroy_ = nullptr;
    invoke_(storage_);
  }

 private:
  void (*invoke_)(void*) = nullptr;
  void (*destroy_)(void*) = nullptr;
  alignas(std::max_align_t) std::byte storage_[4 * sizeof(void*)];
};

}  // namespace

// Stands in the frame of the waiting coroutine.
//
//   fresh ──enlist──▶ waiting ──move, idle or cancellation──▶ ready ──its loop's turn──▶ resumed, gone
struct Cursor::Waiter {
  std::uint64_t past = 0;
  std::uint64_t round = 0;  // of its group, when it was enlisted
  bool ready = false;
  bool cancelled = false;
  State* state = nullptr;
  Group* group = nullptr;
  Waiter* previous = nullptr;
  Waiter* next = nullptr;
  Resumption resume;
};

// Those who wait on one loop.
struct Cursor::Group {
  // Intrusive, doubly linked.
  struct List {
    Waiter* first = nullptr;
    Waiter* last = nullptr;

    void push(Waiter& waiter) noexcept {
      waiter.previous = last;
      waiter.next = nullptr;
      (last != nullptr ? last->next : first) = &waiter;
      last = &waiter;
    }
    void remove(Waiter& waiter) noexcept {
      (waiter.previous != nullptr ? waiter.previous->next : first) = waiter.next;
      (waiter.next != nullptr ? waiter.next->previous : last) = waiter.previous;
    }
    void take_all(List& other) noexcept {
      if (other.first == nullptr) return;
      other.first->previous = last;
      (last != nullptr ? last->next : first) = other.first;
      last = other.last;
      other = List{};
    }
  };

  explicit Group(runtime::Executor on) : executor(std::move(on)) {}

  void enlist(Waiter& waiter) noexcept;
  void ready_below(std::uint64_t now) noexcept;
  void ready_all() noexcept;
  void ready_one(Waiter& waiter) noexcept;

  const runtime::Executor executor;
  List waiting;
  List ready;
  // Bounds of what is waited for. A cancellation may leave them too wide.
  std::uint64_t least = kNobody;
  std::uint64_t most = 0;
  // How often everybody was moved from waiting to ready at once. A waiter of an earlier round is in `ready`, although
  // nobody has told it: that would mean to touch each.
  std::uint64_t round = 0;
  bool posted = false;  // a wake() is on its way or running

 private:
  static constexpr std::uint64_t kNobody = std::numeric_limits<std::uint64_t>::max();
};

void Cursor::Group::enlist(Waiter& waiter) noexcept {
  waiter.group = this;
  waiter.round = round;
  waiting.push(waiter);
  least = std::min(least, waiter.past);
  most = std::max(most, waiter.past);
}

void Cursor::Group::ready_all() noexcept {
  ++round;
  ready.take_all(waiting);
  least = kNobody;
  most = 0;
}

void Cursor::Group::ready_one(Waiter& waiter) noexcept {
  waiting.remove(waiter);
  waiter.ready = true;
  ready.push(waiter);
}

void Cursor::Group::ready_below(std::uint64_t now) noexcept {
  if (waiting.first == nullptr || least >= now) return;
  if (most < now) return ready_all();
  least = kNobody;
  most = 0;
  for (Waiter* at = waiting.first; at != nullptr;) {
    Waiter& waiter = *std::exchange(at, at->next);
    if (waiter.past < now) {
      ready_one(waiter);
    } else {
      least = std::min(least, waiter.past);
      most = std::max(most, waiter.past);
    }
  }
}

struct Cursor::State : std::enable_shared_from_this<Cursor::State> {
  std::atomic<std::uint64_t> position{0};      // written under the mutex
  std::atomic<std::size_t> attached{0};        // written under the mutex
  mutable std::mutex mutex;                    // guards everything below, and the waiters
  std::vector<std::unique_ptr<Group>> groups;  // one for each loop that ever waited here, so few; only grows

  [[nodiscard]] bool answered(std::uint64_t past) const noexcept {
    return position.load(std::memory_order_acquire) > past || attached.load(std::memory_order_acquire) == 0;
  }

  bool enlist(Waiter& waiter, const runtime::Executor& executor);
  void cancel(Waiter& waiter);
  void to_post(Group& group, std::vector<Group*>& posts);
  void post(Group& group);
  void wake(Group& group);
  Waiter* pop_ready(Group& group);
};

// False when the answer is there already.
bool Cursor::State::enlist(Waiter& waiter, const runtime::Executor& executor) {
  const std::scoped_lock lock(mutex);
  if (answered(waiter.past)) return false;
  const auto found =
      std::find_if(groups.begin(), groups.end(), [&](const auto& group) { return group->executor == executor; });
  Group& group = found != groups.end() ? **found : *groups.emplace_back(std::make_unique<Group>(executor));
  group.enlist(waiter);
  return true;
}

// On the waiter's loop. Not resumed from here: the caller stands in the emission of the coroutine's own signal.
void Cursor::State::cancel(Waiter& waiter) {
  Group& group = *waiter.group;
  {
    const std::scoped_lock lock(mutex);
    if (waiter.ready || waiter.round != group.round) return;
    waiter.cancelled = true;
    group.ready_one(waiter);
    if (std::exchange(group.posted, true)) return;
  }
  post(group);
}

// Under the lock.
void Cursor::State::to_post(Group& group, std::vector<Group*>& posts) {
  if (group.ready.first != nullptr && !std::exchange(group.posted, true)) posts.push_back(&group);
}

void Cursor::State::post(Group& group) {
  runtime::asio::post(group.executor, [self = shared_from_this(), &group] { self->wake(group); });
}

Cursor::Waiter* Cursor::State::pop_ready(Group& group) {
  const std::scoped_lock lock(mutex);
  Waiter* const waiter = group.ready.first;
  if (waiter == nullptr) {
    group.posted = false;
    return nullptr;
  }
  group.ready.remove(*waiter);
  waiter->ready = true;
  return waiter;
}

// On the group's loop. Taken one by one, because a waiter that resumes may cancel others.
void Cursor::State::wake(Group& group) {
  for (int i = 0; i < kWokenInATurn; ++i) {
    Waiter* const waiter = pop_ready(group);
    if (waiter == nullptr) return;
    waiter->resume();
  }
  post(group);
}

Cursor::Cursor() : state_(std::make_shared<State>()) {}

Cursor::~Cursor() = default;

std::uint64_t Cursor::position() const noexcept { return state_->position.load(std::memory_order_acquire); }

bool Cursor::idle() const noexcept { return state_->attached.load(std::memory_order_acquire) == 0; }

bool Cursor::advance(std::uint64_t position) {
  // Most calls are of readers behind the front-runner: they cost a load.
  if (position <= this->position()) return false;
  const std::shared_ptr<State> state = state_;
  std::vector<Group*> posts;
  {
    const std::scoped_lock lock(state->mutex);
    if (position <= state->position.load(std::memory_order_relaxed)) return false;
    state->position.store(position, std::memory_order_release);
    for (const auto& group : state->groups) {
      group->ready_below(position);
      state->to_post(*group, posts);
    }
  }
  for (Group* const group : posts) state->post(*group);
  return true;
}

void Cursor::attach() {
  const std::scoped_lock lock(state_->mutex);
  state_->attached.fetch_add(1, std::memory_order_acq_rel);
}

void Cursor::detach() {
  const std::shared_ptr<State> state = state_;
  std::vector<Group*> posts;
  {
    const std::scoped_lock lock(state->mutex);
    if (state->attached.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    for (const auto& group : state->groups) {
      group->ready_all();
      state->to_post(*group, posts);
    }
  }
  for (Group* const group : posts) state->post(*group);
}

runtime::Task<Result<std::uint64_t>> Cursor::wait_past(std::uint64_t past) {
  if (!state_->answered(past)) {
    Waiter waiter;
    waiter.past = past;
    waiter.state = state_.get();
    const runtime::Executor executor = co_await runtime::asio::this_coro::executor;
    co_await runtime::asio::async_initiate<const runtime::asio::use_awaitable_t<runtime::Executor>, void()>(
        [](auto handler, Waiter* at, runtime::Executor on) {
          auto slot = runtime::asio::get_associated_cancellation_slot(handler);
          at->resume.emplace(std::move(handler));
          if (!at->state->enlist(*at, on)) {
            runtime::asio::post(on, [at] { at->resume(); });
            return;
          }
          // Nothing can have resumed it yet: that happens on this loop, which stands here. The handler clears the slot
          // before it resumes the coroutine.
          if (!slot.is_connected()) return;
          slot.assign([at](runtime::asio::cancellation_type type) {
            if ((type & runtime::asio::cancellation_type::terminal) != runtime::asio::cancellation_type::none) {
              at->state->cancel(*at);
            }
          });
        },
        runtime::kAwait, &waiter, executor);
    if (waiter.cancelled) co_return Error(Errc::cancelled);
  }
  co_return position();
}

std::size_t Cursor::waiting() const {
  const std::scoped_lock lock(state_->mutex);
  std::size_t count = 0;
  for (const auto& group : state_->groups) {
    for (const Waiter* at = group->waiting.first; at != nullptr; at = at->next) ++count;
  }
  return count;
}

}  // namespace sluice::streamcache

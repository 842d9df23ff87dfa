#include "store/ledger.hpp"

#include <algorithm>
#include <vector>

#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>

#include <fmt/format.h>

#include "base/units.hpp"

namespace sluice::store {
namespace {

// Evictions begin when less than the first part of the limit is left, and go on until the second part is: so that room
// is mostly there before it is asked for. Never more than kMostSlackBytes.
constexpr std::uint64_t kBeginPart = 64;
constexpr std::uint64_t kEndPart = 32;
constexpr std::uint64_t kMostSlackBytes = std::uint64_t{2} << 30;

std::uint64_t part_of(std::uint64_t limit, std::uint64_t part) { return std::min(limit / part, kMostSlackBytes); }

}  // namespace

Reservation& Reservation::operator=(Reservation&& other) noexcept {
  if (this != &other) {
    release();
    ledger_ = std::exchange(other.ledger_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    written_ = std::exchange(other.written_, 0);
    idle_ = std::exchange(other.idle_, false);
  }
  return *this;
}

void Reservation::release() noexcept {
  if (ledger_ != nullptr) std::exchange(ledger_, nullptr)->release(*this);
  bytes_ = written_ = 0;
  idle_ = false;
}

void Reservation::wrote(std::uint64_t total_bytes) {
  const std::uint64_t now = std::min(on_disk(total_bytes), bytes_);
  if (ledger_ == nullptr || now <= written_) return;
  const std::scoped_lock lock(ledger_->mutex_);
  ledger_->unwritten_ -= now - written_;
  written_ = now;
}

template <class F>
void Ledger::change(F apply) {
  std::vector<Waiter> granted;
  bool need_room = false;
  {
    const std::scoped_lock lock(mutex_);
    apply();
    while (!waiting_.empty() && fits(waiting_.front().bytes)) {
      count(waiting_.front().bytes);
      queued_ -= waiting_.front().bytes;
      granted.push_back(std::move(waiting_.front()));
      waiting_.pop_front();
    }
    reserved_gauge_.set(static_cast<std::int64_t>(reserved_));
    need_room = wanted_locked().bytes != 0;
  }
  for (const Waiter& waiter : granted) waiter.resume(Verdict::granted);
  if (need_room) need_room_();
}

bool Ledger::fits(std::uint64_t bytes) const noexcept {
  if (watches_free_ && headroom_ < static_cast<std::int64_t>(bytes)) return false;
  return limit_ == kUnlimited || (used() <= limit_ && bytes <= limit_ - used());
}

void Ledger::count(std::uint64_t bytes) noexcept {
  reserved_ += bytes;
  unwritten_ += bytes;
  headroom_ -= static_cast<std::int64_t>(bytes);
}

Ledger::Verdict Ledger::decide(std::uint64_t bytes) {
  if (closed_) return Verdict::closed;
  if (waiting_.empty() && fits(bytes)) {
    count(bytes);
    reserved_gauge_.set(static_cast<std::int64_t>(reserved_));
    return Verdict::granted;
  }
  return could_fit(queued_ + bytes) ? Verdict::wait : Verdict::no_space;  // after those who came before
}

// With everything at rest and idle gone.
bool Ledger::could_fit(std::uint64_t bytes) const noexcept {
  const std::uint64_t fixed = reserved_ + overhead_;
  if (limit_ != kUnlimited && (fixed > limit_ || bytes > limit_ - fixed)) return false;
  return !watches_free_ || headroom_ + static_cast<std::int64_t>(at_rest_ + idle_) >= static_cast<std::int64_t>(bytes);
}

bool Ledger::can_hold(std::uint64_t size_bytes) const {
  const std::scoped_lock lock(mutex_);
  return could_fit(on_disk(size_bytes));
}

Ledger::Verdict Ledger::take(std::uint64_t bytes) {
  Verdict verdict{};
  bool need_room = false;
  {
    const std::scoped_lock lock(mutex_);
    verdict = decide(bytes);
    need_room = verdict == Verdict::granted && wanted_locked().bytes != 0;
  }
  if (need_room) need_room_();
  return verdict;
}

void Ledger::enlist(Waiter waiter) {
  Verdict verdict{};
  std::function<void(Verdict)> resume;
  {
    const std::scoped_lock lock(mutex_);
    verdict = decide(waiter.bytes);
    if (verdict == Verdict::wait) {
      queued_ += waiter.bytes;
      waiting_.push_back(std::move(waiter));
    } else {
      resume = std::move(waiter.resume);
    }
  }
  if (resume) resume(verdict);
  need_room_();
}

runtime::Task<Ledger::Verdict> Ledger::wait(std::uint64_t bytes) {
  namespace asio = runtime::asio;
  co_return co_await asio::async_initiate<const asio::use_awaitable_t<runtime::Executor>, void(Verdict)>(
      [this, bytes](auto handler) {
        // Shared, because std::function wants copyable and a coroutine handler is not.
        auto done = std::make_shared<decltype(handler)>(std::move(handler));
        auto executor = asio::get_associated_executor(*done);
        enlist({bytes, [done, guard = asio::make_work_guard(executor)](Verdict verdict) {
                  asio::post(guard.get_executor(), [done, verdict] { std::move (*done)(verdict); });
                }});
      },
      runtime::kAwait);
}

Error Ledger::no_room_for(std::uint64_t size_bytes) {
  return {Errc::no_space, fmt::format("no room for {} within the limits of the store", format_bytes(size_bytes))};
}

runtime::Task<Result<void>> Ledger::grow(Reservation& reservation, std::uint64_t size_bytes) {
  const std::uint64_t bytes = on_disk(size_bytes);
  if (bytes <= reservation.bytes_) co_return Result<void>{};
  const std::uint64_t more = bytes - reservation.bytes_;
  Verdict verdict = take(more);
  if (verdict == Verdict::wait) verdict = co_await wait(more);
  // Nothing is awaited from here on, so what was granted cannot get lost.
  if (verdict == Verdict::closed) co_return Error(Errc::shutting_down);
  if (verdict != Verdict::granted) {
    co_return no_room_for(size_bytes);
  }
  reservation.ledger_ = this;
  reservation.bytes_ = bytes;
  co_return Result<void>{};
}

Reservation Ledger::hold(std::uint64_t size_bytes, Kind kind) {
  Reservation out;
  out.ledger_ = this;
  settle(out, size_bytes, kind);
  return out;
}

void Ledger::settle(Reservation& reservation, std::uint64_t size_bytes, Kind kind) {
  change([&] {
    // What was not written is as free as before, what was is counted in the free space already.
    headroom_ += static_cast<std::int64_t>(reservation.bytes_ - reservation.written_);
    take_out(reservation);
    reservation.ledger_ = this;
    reservation.bytes_ = reservation.written_ = on_disk(size_bytes);
    reservation.idle_ = kind == Kind::idle;
    (reservation.idle_ ? idle_ : reserved_) += reservation.bytes_;
  });
}

// Under the lock: it counts no more.
void Ledger::take_out(const Reservation& reservation) noexcept {
  (reservation.idle_ ? idle_ : reserved_) -= reservation.bytes_;
  unwritten_ -= reservation.bytes_ - reservation.written_;
}

void Ledger::release(const Reservation& reservation) {
  change([&] {
    take_out(reservation);
    headroom_ += static_cast<std::int64_t>(reservation.bytes_);
  });
}

void Ledger::commit(Reservation reservation, std::uint64_t size_bytes) {
  const std::uint64_t bytes = on_disk(size_bytes);
  change([&] {
    take_out(reservation);
    headroom_ += static_cast<std::int64_t>(reservation.bytes_) - static_cast<std::int64_t>(bytes);
    at_rest_ += bytes;
    reservation.ledger_ = nullptr;
  });
}

void Ledger::found(std::uint64_t size_bytes) {
  change([&] { at_rest_ += on_disk(size_bytes); });
}

void Ledger::gone(std::uint64_t size_bytes) {
  change([&] {
    at_rest_ -= on_disk(size_bytes);
    headroom_ += static_cast<std::int64_t>(on_disk(size_bytes));
  });
}

void Ledger::set_limit(std::uint64_t max_bytes) {
  change([&] { limit_ = max_bytes; });
}

void Ledger::set_overhead(std::uint64_t bytes) {
  change([&] { overhead_ = bytes; });
}

void Ledger::add_overhead(std::uint64_t bytes) {
  change([&] { overhead_ += bytes; });
}

void Ledger::set_free(std::uint64_t available_bytes, std::uint64_t min_free_bytes) {
  change([&] {
    watches_free_ = available_bytes != kUnlimited;
    min_free_ = min_free_bytes;
    if (watches_free_) {
      headroom_ = static_cast<std::int64_t>(available_bytes) - static_cast<std::int64_t>(unwritten_) -
                  static_cast<std::int64_t>(min_free_bytes);
    }
  });
}

Ledger::Wanted Ledger::wanted_locked() const noexcept {
  const std::uint64_t used_then = used() + queued_;
  if (limit_ != kUnlimited && used_then + part_of(limit_, kBeginPart) > limit_) {
    return {used_then + part_of(limit_, kEndPart) - limit_, false};
  }
  const std::int64_t left = headroom_ - static_cast<std::int64_t>(queued_);
  if (watches_free_ && left < 0) {
    return {static_cast<std::uint64_t>(-left) + part_of(min_free_, kEndPart), true};
  }
  return {};
}

Ledger::Wanted Ledger::wanted() const {
  const std::scoped_lock lock(mutex_);
  return wanted_locked();
}

void Ledger::fail_waiting(Verdict verdict) {
  std::deque<Waiter> failed;
  {
    const std::scoped_lock lock(mutex_);
    if (verdict == Verdict::closed) closed_ = true;
    failed.swap(waiting_);
    queued_ = 0;
  }
  for (const Waiter& waiter : failed) waiter.resume(verdict);
}

void Ledger::give_up() { fail_waiting(Verdict::no_space); }

void Ledger::close() { fail_waiting(Verdict::closed); }

std::uint64_t Ledger::limit() const {
  const std::scoped_lock lock(mutex_);
  return limit_;
}

std::uint64_t Ledger::at_rest() const {
  const std::scoped_lock lock(mutex_);
  return at_rest_;
}

std::uint64_t Ledger::idle() const {
  const std::scoped_lock lock(mutex_);
  return idle_;
}

std::uint64_t Ledger::reserved() const {
  const std::scoped_lock lock(mutex_);
  return reserved_;
}

std::uint64_t Ledger::overhead() const {
  const std::scoped_lock lock(mutex_);
  return overhead_;
}

std::size_t Ledger::waiting() const {
  const std::scoped_lock lock(mutex_);
  return waiting_.size();
}

}  // namespace sluice::store

#include "streamcache/pipe.hpp"

#include <algorithm>
#include <cassert>
#include <utility>

#include <fmt/format.h>

namespace sluice::streamcache {
namespace {

PipeParams usable(PipeParams params) {
  // With none at all the writer could not even begin.
  if (params.window_bytes) params.window_bytes = std::max<std::uint64_t>(*params.window_bytes, 1);
  return params;
}

// How often a writer waits for those who may still join.
std::int64_t pauses(const PipeParams& params) {
  return params.join_pause.count() > 0 ? params.join_time / params.join_pause : 0;
}

std::uint64_t minus(std::uint64_t from, std::uint64_t what) noexcept { return from - std::min(from, what); }

}  // namespace

Pipe::Pipe(const PipeParams& params, const Clock& clock, const Metrics& metrics)
    : params_(usable(params)), clock_(clock), metrics_(metrics), pauses_left_(pauses(params)) {
  visible_.attach();
  stage_.attach();
  given_up_.attach();
}

Pipe::~Pipe() = default;

void Pipe::open(std::unique_ptr<Storage> storage, std::uint64_t part_bytes) {
  {
    const std::scoped_lock lock(mutex_);
    assert(!storage_);
    storage_ = std::move(storage);
    part_bytes_ = part_bytes;
  }
  stage_.advance(kOpen);
}

void Pipe::open_unstored(Error why) {
  {
    const std::scoped_lock lock(mutex_);
    assert(!storage_);
    storage_ = make_memory_storage();  // for its lack of a file
    tail_ = make_memory_storage(0, params_.memory);
    unstored_ = std::move(why);
  }
  stored_end_.store(0, std::memory_order_release);
  stage_.advance(kOpen);
}

Result<void> Pipe::finish(Result<void> result) {
  Result<void> settled;
  bool shown = false;
  {
    const std::scoped_lock lock(mutex_);
    if (outcome_) return *outcome_;
    shown = complete_;
    settled = result ? check_locked() : std::move(result);
    if (settled) size_ = written();
    outcome_ = settled;
  }
  // The outcome stands before anybody is woken to ask for it.
  if (!shown) {
    show();
    if (settled) visible_.advance(written());
    visible_.detach();
  }
  stage_.advance(kEnded);
  stage_.detach();
  given_up_.detach();
  return settled;
}

runtime::Task<Result<void>> Pipe::wait_ended() {
  const Result<std::uint64_t> stage = co_await stage_.wait_past(kSizeKnown);
  if (!stage) co_return stage.error();
  co_return Result<void>{};
}

Result<void> Pipe::check() const {
  const std::scoped_lock lock(mutex_);
  return check_locked();
}

Result<void> Pipe::check_locked() const {
  if (outcome_) return *outcome_;
  if (write_error_) return *write_error_;
  if (size_ && *size_ != written()) {
    return Error(Errc::size_mismatch, fmt::format("expected {} bytes, got {}", *size_, written()));
  }
  return {};
}

Result<std::unique_ptr<Stream>> Pipe::open_reader() {
  auto stream = std::make_unique<Stream>(shared_from_this());
  stream->closed_ = true;  // until it is one of ours
  {
    const std::scoped_lock lock(mutex_);
    if (outcome_ && !*outcome_) return outcome_->error();
    if (!outcome_ && abandoned_) return Error(Errc::abandoned, "the fill is being given up");
    if (unstored_ && !has_beginning()) {
      return Error(Errc::unsupported, "cannot join an unstored download after its beginning was discarded");
    }
    streams_.push_back(stream.get());
    ++readers_so_far_;
    slowest_at_ = stored_end_.load() == UINT64_MAX ? 0 : stored_end();
    // Under the lock, so that the writer never sees a reader go and not the next one come.
    mark_.attach();
    slowest_.attach();
  }
  stream->closed_ = false;
  metrics_.readers.add(1);
  return stream;
}

void Pipe::leave(Stream& stream) {
  bool given_up = false;
  {
    const std::scoped_lock lock(mutex_);
    streams_.erase(std::find(streams_.begin(), streams_.end(), &stream));
    // Those who were cut off read no more, and pace nobody.
    const bool unread =
        std::all_of(streams_.begin(), streams_.end(), [](const Stream* other) { return other->cut_off_.load(); });
    if (unread && !outcome_ && !complete_ && (params_.abandoned == Abandoned::fail || unstored_) && !all_read()) {
      given_up = abandoned_ = true;
    }
  }
  mark_.detach();
  slowest_.detach();
  if (unstored()) pass_slowest();
  if (given_up) given_up_.advance(1);
  metrics_.readers.add(-1);
}

// Under the lock: the front-runner has had everything that can be seen before the end.
bool Pipe::all_read() const { return size_ && mark_.position() >= minus(*size_, params_.hold_back_bytes); }

std::optional<std::uint64_t> Pipe::size() const {
  const std::scoped_lock lock(mutex_);
  return size_;
}

std::size_t Pipe::readers() const {
  const std::scoped_lock lock(mutex_);
  return streams_.size();
}

std::size_t Pipe::readers_so_far() const {
  const std::scoped_lock lock(mutex_);
  return readers_so_far_;
}

bool Pipe::ended() const noexcept { return stage_.position() == kEnded; }

const runtime::File& Pipe::file() const {
  static const runtime::File none;
  const std::scoped_lock lock(mutex_);
  return storage_ ? storage_->file() : none;
}

const runtime::Path& Pipe::path() const {
  static const runtime::Path none;
  const std::scoped_lock lock(mutex_);
  return storage_ ? storage_->path() : none;
}

bool Pipe::released() const {
  const std::scoped_lock lock(mutex_);
  return released_;
}

std::unique_ptr<Storage> Pipe::take_replaced() {
  const std::scoped_lock lock(mutex_);
  return std::move(replaced_);
}

Result<void> Pipe::outcome() const {
  const std::scoped_lock lock(mutex_);
  if (!outcome_) return Error(Errc::internal, "asked for the outcome of a fill that runs");
  return *outcome_;
}

// What a reader gets after the last byte.
Result<void> Pipe::bytes_outcome() const {
  const std::scoped_lock lock(mutex_);
  if (complete_) return {};
  if (!outcome_) return Error(Errc::internal, "asked for the outcome of a fill that runs");
  return *outcome_;
}

Result<void> Pipe::may_write() {
  const std::scoped_lock lock(mutex_);
  if (outcome_ || complete_) return Error(Errc::closed, "the fill has ended");
  if (!write_error_ && abandoned_) write_error_ = Error(Errc::abandoned, "all readers left before the end");
  if (write_error_) return *write_error_;
  return {};
}

// What the mark must have passed before the writer may go on; none: it may.
std::optional<std::uint64_t> Pipe::mark_needed() const {
  const bool memory = unstored();
  const std::optional<std::uint64_t> window = memory ? memory_window() : params_.window_bytes;
  if (!window || mark_.idle()) return std::nullopt;
  const std::uint64_t written = this->written();
  // The bytes held back do not count: readers cannot come nearer.
  const std::uint64_t lead = *window > UINT64_MAX - hold_back() ? UINT64_MAX : *window + hold_back();
  if (!memory) {
    if (written < lead || mark_.position() > written - lead) return std::nullopt;
    return written - lead;
  }
  const std::scoped_lock lock(mutex_);
  if (written < lead || slowest_at_ > written - lead) return std::nullopt;
  return slowest_moves_;
}

// What is in memory is never without bounds.
std::uint64_t Pipe::memory_window() const noexcept {
  const std::uint64_t window = params_.window_bytes.value_or(*PipeParams{}.window_bytes);
  if (params_.memory && params_.memory->used_up()) return std::min(window, MemoryBudget::kLeastWindow);
  return window;
}

void Pipe::note_write_error(const Error& error) {
  const std::scoped_lock lock(mutex_);
  if (!complete_ && !write_error_) write_error_ = error;
}

Result<void> Pipe::append(std::uint64_t at, std::span<const std::byte> bytes) {
  if (!unstored()) {
    Result<void> stored = storage_->write(at, bytes);
    if (stored || !params_.unstored || !become_unstored(at, stored.error())) return stored;
  }
  return tail_->write(at, bytes);
}

// False where nobody reads: there is nobody to do it for.
bool Pipe::become_unstored(std::uint64_t at, const Error& why) {
  {
    const std::scoped_lock lock(mutex_);
    if (streams_.empty()) return false;
    tail_ = make_memory_storage(at, params_.memory);
    unstored_ = why;
  }
  stored_end_.store(at, std::memory_order_release);
  pass_slowest();
  return true;
}

// The slowest reader may have moved. What stands in the file is no burden, so nobody counts as slower than that.
void Pipe::pass_slowest() {
  std::uint64_t moves = 0;
  {
    const std::scoped_lock lock(mutex_);
    std::uint64_t slowest = UINT64_MAX;
    for (const Stream* const stream : streams_) {
      if (!stream->cut_off_) slowest = std::min(slowest, stream->reached_.load());
    }
    if (slowest == UINT64_MAX && streams_.empty()) slowest = written();
    slowest = std::max(slowest, stored_end());
    // Under the lock, so that nobody joins for what goes.
    const bool for_joiners = has_beginning() && (has_room_for_beginning() || expects_joins());
    if (!for_joiners) tail_->discard_below(slowest);
    if (slowest != slowest_at_) ++slowest_moves_;
    slowest_at_ = slowest;
    moves = slowest_moves_;
  }
  slowest_.advance(moves);
}

// Under the lock, as the following: nothing has been discarded, so that others can join.
bool Pipe::has_beginning() const { return tail_->start() == stored_end(); }

bool Pipe::has_room_for_beginning() const {
  const bool in_window = written() - stored_end() <= memory_window();
  if (!params_.memory) return in_window;
  return params_.memory->half_used() ? in_window && !params_.memory->used_up() : true;
}

// Several have joined, and the writer has not waited in vain for more.
bool Pipe::expects_joins() const {
  return pauses_left_ > 0 && streams_.size() >= 2 && !(params_.memory && params_.memory->used_up());
}

// What the writer would write next would take the place of the beginning.
bool Pipe::must_wait_for_joiners() const {
  const std::scoped_lock lock(mutex_);
  return has_beginning() && !has_room_for_beginning() && expects_joins();
}

void Pipe::note_pause(std::size_t readers_before) {
  const std::scoped_lock lock(mutex_);
  pauses_left_ = readers_so_far_ == readers_before ? 0 : pauses_left_ - 1;
}

// Those for whom the writer waits while others wait for the writer. Their answers break off; they may come back for the
// rest.
void Pipe::cut_off_laggards() {
  {
    const std::scoped_lock lock(mutex_);
    const std::uint64_t most = memory_window() / 2;
    const auto lag = [&](const Stream& stream) { return minus(written(), stream.reached_.load()); };
    const bool waited_for = std::any_of(streams_.begin(), streams_.end(),
                                        [&](const Stream* stream) { return !stream->cut_off_ && lag(*stream) < most; });
    if (!waited_for) return;
    for (Stream* const stream : streams_) {
      if (lag(*stream) >= most) stream->cut_off_ = true;
    }
  }
  pass_slowest();
}

void Pipe::publish(std::uint64_t written, bool at_once) {
  written_.store(written, std::memory_order_release);
  if (at_once || !may_wait(written)) show();
}

// Whether readers may wait for more than they could have. The first ones of a blob never do.
bool Pipe::may_wait(std::uint64_t written) const {
  const std::uint64_t visible = visible_.position();
  const std::uint64_t step = std::min(kWakeBytes, params_.window_bytes.value_or(UINT64_MAX) / 4);
  return visible >= kWakeBytes && written - visible < step && !unstored() && readers() >= kManyReaders;
}

// Called by the writer's task, the only one that changes size_ before the end.
void Pipe::show() {
  const std::uint64_t written = this->written();
  visible_.advance(size_ ? std::min(written, minus(*size_, hold_back())) : minus(written, hold_back()));
}

}  // namespace sluice::streamcache

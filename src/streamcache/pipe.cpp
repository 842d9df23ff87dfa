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

std::uint64_t minus(std::uint64_t from, std::uint64_t what) noexcept { return from - std::min(from, what); }

}  // namespace

Pipe::Pipe(const PipeParams& params, const Clock& clock, const Metrics& metrics)
    : params_(usable(params)), clock_(clock), metrics_(metrics) {
  visible_.attach();
  stage_.attach();
  given_up_.attach();
}

Pipe::~Pipe() = default;

void Pipe::open(std::unique_ptr<Storage> storage) {
  {
    const std::scoped_lock lock(mutex_);
    assert(!storage_);
    storage_ = std::move(storage);
  }
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
    if (settled) visible_.advance(written());
    visible_.detach();
  }
  stage_.advance(kEnded);
  stage_.detach();
  given_up_.detach();
  return settled;
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
  {
    const std::scoped_lock lock(mutex_);
    if (outcome_ && !*outcome_) return outcome_->error();
    if (!outcome_ && abandoned_) return Error(Errc::abandoned, "the fill is being given up");
    ++readers_;
    // Under the lock, so that the writer never sees a reader go and not the next one come.
    mark_.attach();
  }
  metrics_.readers.add(1);
  return std::make_unique<Stream>(shared_from_this());
}

void Pipe::leave() {
  bool given_up = false;
  {
    const std::scoped_lock lock(mutex_);
    --readers_;
    if (readers_ == 0 && !outcome_ && !complete_ && params_.abandoned == Abandoned::fail && !all_read()) {
      given_up = abandoned_ = true;
    }
  }
  mark_.detach();
  if (given_up) given_up_.advance(1);
  metrics_.readers.add(-1);
}

// Under the lock: the front-runner has had everything that can be seen before the end.
bool Pipe::all_read() const { return size_ && mark_.position() >= minus(*size_, params_.hold_back_bytes); }

std::size_t Pipe::readers() const {
  const std::scoped_lock lock(mutex_);
  return readers_;
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
  if (!params_.window_bytes || mark_.idle()) return std::nullopt;
  const std::uint64_t written = this->written();
  // The bytes held back do not count: readers cannot come nearer.
  const std::uint64_t lead = *params_.window_bytes > UINT64_MAX - params_.hold_back_bytes
                                 ? UINT64_MAX
                                 : *params_.window_bytes + params_.hold_back_bytes;
  if (written < lead || mark_.position() > written - lead) return std::nullopt;
  return written - lead;
}

void Pipe::note_write_error(const Error& error) {
  const std::scoped_lock lock(mutex_);
  if (!complete_ && !write_error_) write_error_ = error;
}

void Pipe::publish(std::uint64_t written) {
  written_.store(written, std::memory_order_release);
  show();
}

// Called by the writer's task, the only one that changes size_ before the end.
void Pipe::show() {
  const std::uint64_t written = this->written();
  visible_.advance(size_ ? std::min(written, minus(*size_, params_.hold_back_bytes))
                         : minus(written, params_.hold_back_bytes));
}

}  // namespace sluice::streamcache

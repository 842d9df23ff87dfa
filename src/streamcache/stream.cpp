#include <algorithm>
#include <utility>

#include "streamcache/pipe.hpp"

namespace sluice::streamcache {

Stream::Stream(std::shared_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {}

Stream::~Stream() { close(); }

void Stream::close() {
  if (std::exchange(closed_, true)) return;
  pipe_->leave(*this);
}

runtime::Task<Result<std::uint64_t>> Stream::wait_readable(std::uint64_t position) {
  advance(position);
  const Result<std::uint64_t> end = co_await wait_beyond(position);
  if (!end) co_return end.error();
  co_return std::max(*end, position);
}

runtime::Task<Result<std::uint64_t>> Stream::wait_beyond(std::uint64_t position) {
  if (closed_) co_return Error(Errc::closed, "the stream is closed");
  for (;;) {
    if (cut_off_) co_return Error(Errc::overloaded, "the reader was too slow for a fill that is not stored");
    // In this order: once the writer has ended, the end that is read next is the last one.
    const bool ended = pipe_->visible_.idle();
    const std::uint64_t end = readable();
    if (end > position) co_return end;
    if (ended) {
      if (Result<void> outcome = pipe_->bytes_outcome(); !outcome) co_return outcome.error();
      co_return end;
    }
    const Result<std::uint64_t> moved = co_await pipe_->visible_.wait_past(position);
    if (!moved) co_return moved.error();
  }
}

std::uint64_t Stream::readable() const noexcept { return pipe_->visible_.position(); }

runtime::Task<Result<void>> Stream::wait_open() {
  const Result<std::uint64_t> stage = co_await pipe_->stage_.wait_past(Pipe::kOpening);
  if (!stage) co_return stage.error();
  {
    const std::scoped_lock lock(pipe_->mutex_);
    // A producer that has failed by now had its file, so that is no failure to open.
    if (pipe_->storage_) co_return Result<void>{};
  }
  co_return pipe_->outcome();
}

runtime::Task<Result<std::optional<std::uint64_t>>> Stream::wait_size() {
  const Result<std::uint64_t> stage = co_await pipe_->stage_.wait_past(Pipe::kOpen);
  if (!stage) co_return stage.error();
  const std::scoped_lock lock(pipe_->mutex_);
  if (!pipe_->complete_ && pipe_->outcome_ && !*pipe_->outcome_) co_return pipe_->outcome_->error();
  co_return pipe_->size_;
}

runtime::Task<Result<std::size_t>> Stream::read(std::span<std::byte> bytes) {
  const Result<std::uint64_t> end = co_await wait_readable(next_);
  if (!end) co_return end.error();
  const auto length = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), *end - next_));
  if (length == 0) co_return std::size_t{0};
  const Result<std::size_t> got = co_await read_at(next_, bytes.first(length));
  if (!got) co_return got.error();
  next_ += *got;
  advance(next_);
  co_return *got;
}

std::uint64_t Stream::stored_end() const noexcept { return pipe_->stored_end(); }

runtime::Task<Result<std::size_t>> Stream::read_at(std::uint64_t position, std::span<std::byte> bytes) {
  const std::uint64_t stored = stored_end();
  const bool in_file = position < stored;
  if (in_file) bytes = bytes.first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), stored - position)));
  // What it has not read may be gone.
  if (!in_file && cut_off_) co_return Error(Errc::overloaded, "the reader was too slow for a fill that is not stored");
  Storage& storage = in_file ? *pipe_->storage_ : *pipe_->tail_;
  Result<std::size_t> got = co_await storage.read(position, bytes);
  if (got && *got == 0) co_return Error(Errc::io, "the file is shorter than what was written to it");
  co_return got;
}

void Stream::advance(std::uint64_t position) {
  if (closed_ || position <= reached_) return;
  reached_ = position;
  pipe_->mark_.advance(position);
  if (pipe_->unstored()) pipe_->pass_slowest();
}

const runtime::File& Stream::file() const { return pipe_->file(); }

runtime::Task<Result<void>> Stream::wait() {
  const Result<std::uint64_t> stage = co_await pipe_->stage_.wait_past(Pipe::kSizeKnown);
  if (!stage) co_return stage.error();
  co_return pipe_->outcome();
}

bool Stream::finished() const noexcept { return pipe_->ended(); }

}  // namespace sluice::streamcache

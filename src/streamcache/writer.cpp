#include <utility>
#include <variant>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "runtime/every.hpp"
#include "streamcache/pipe.hpp"

namespace sluice::streamcache {
namespace {

// Adds the time until it is destroyed to a counter, once it was started.
class Wait {
 public:
  Wait(const Clock& clock, metrics::Counter& nanoseconds) : clock_(clock), nanoseconds_(nanoseconds) {}
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;
  ~Wait() {
    if (!since_) return;
    nanoseconds_.add(static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(clock_.now() - *since_).count()));
  }
  void start() {
    if (!since_) since_ = clock_.now();
  }

 private:
  const Clock& clock_;
  metrics::Counter& nanoseconds_;
  std::optional<Clock::Monotonic> since_;
};

}  // namespace

Writer::Writer(std::shared_ptr<Pipe> pipe) : pipe_(std::move(pipe)) {}

runtime::Task<Result<void>> Writer::wait_window() {
  Pipe& pipe = *pipe_;
  Wait wait(pipe.clock_, *pipe.metrics_.backpressure_wait_nanoseconds);
  for (;;) {
    if (Result<void> may = pipe.may_write(); !may) co_return may;
    const std::optional<std::uint64_t> needed = pipe.mark_needed();
    if (!needed && !(pipe.unstored() && pipe.must_wait_for_joiners())) co_return Result<void>{};
    pipe.show();
    wait.start();
    if (!needed) {
      const std::size_t readers = pipe.readers_so_far();
      co_await runtime::sleep_for(pipe.params_.join_pause);
      pipe.note_pause(readers);
      continue;
    }
    if (pipe.unstored()) {
      if (Result<void> waited = co_await wait_slowest(*needed); !waited) co_return waited;
      continue;
    }
    const Result<std::uint64_t> mark = co_await pipe.mark_.wait_past(*needed);
    if (!mark) co_return mark.error();
  }
}

runtime::Task<Result<void>> Writer::wait_slowest(std::uint64_t move) {
  using namespace runtime::asio::experimental::awaitable_operators;
  Pipe& pipe = *pipe_;
  const auto ended = co_await (pipe.slowest_.wait_past(move) || runtime::sleep_for(pipe.params_.unstored_patience));
  if (ended.index() != 0) {
    pipe.cut_off_laggards();
    co_return Result<void>{};
  }
  const Result<std::uint64_t>& moved = std::get<0>(ended);
  if (!moved) co_return moved.error();
  co_return Result<void>{};
}

runtime::Task<Result<void>> Writer::write(std::span<const std::byte> bytes, Next next) {
  Pipe& pipe = *pipe_;
  if (Result<void> room = co_await wait_window(); !room) {
    pipe.note_write_error(room.error());
    co_return room;
  }
  if (bytes.empty()) co_return Result<void>{};
  const std::uint64_t at = pipe.written();
  Result<void> written = pipe.append(at, bytes);
  if (written && pipe.held_whole_ && pipe.unstored() &&
      at + bytes.size() - pipe.stored_end() > pipe.params_.window_bytes.value_or(*PipeParams{}.window_bytes)) {
    written = Error(Errc::no_space, "it cannot be stored, and is not passed on before it is verified");
  }
  if (!written) {
    pipe.note_write_error(written.error());
    co_return written;
  }
  pipe.publish(at + bytes.size(), next == Next::may_take_long);
  // Readers that have gone ahead, to the start of a range, say nothing until it comes.
  if (pipe.unstored()) pipe.pass_slowest();
  co_return Result<void>{};
}

void Writer::show() { pipe_->show(); }

void Writer::hold_whole() { pipe_->held_whole_ = true; }

void Writer::set_size(std::optional<std::uint64_t> size_bytes) {
  {
    const std::scoped_lock lock(pipe_->mutex_);
    if (pipe_->outcome_ || pipe_->stage_.position() >= Pipe::kSizeKnown) return;
    pipe_->size_ = size_bytes;
  }
  pipe_->show();
  pipe_->stage_.advance(Pipe::kSizeKnown);
}

Result<void> Writer::complete() {
  Pipe& pipe = *pipe_;
  {
    const std::scoped_lock lock(pipe.mutex_);
    if (pipe.outcome_ || pipe.complete_) return Error(Errc::closed, "the fill has ended");
    if (Result<void> good = pipe.check_locked(); !good) return good;
    pipe.size_ = pipe.written();
    pipe.complete_ = true;
  }
  pipe.visible_.advance(pipe.written());
  pipe.visible_.detach();
  pipe.stage_.advance(Pipe::kSizeKnown);
  return {};
}

runtime::Task<Result<void>> Writer::wait_abandoned() {
  const Result<std::uint64_t> given_up = co_await pipe_->given_up_.wait_past(0);
  if (!given_up) co_return given_up.error();
  co_return Result<void>{};
}

Result<void> Writer::adopt(runtime::File file, runtime::Path path, std::uint64_t size_bytes) {
  {
    const std::scoped_lock lock(pipe_->mutex_);
    if (pipe_->outcome_ || pipe_->written() != 0 || pipe_->replaced_) {
      return Error(Errc::closed, "a part can be taken over only before the first write");
    }
    Result<std::unique_ptr<Storage>> adopted = pipe_->storage_->with(std::move(file), std::move(path));
    if (!adopted) return adopted.error();
    pipe_->replaced_ = std::exchange(pipe_->storage_, *std::move(adopted));
  }
  if (size_bytes != 0) pipe_->publish(size_bytes);
  return {};
}

std::uint64_t Writer::part_bytes() const {
  const std::scoped_lock lock(pipe_->mutex_);
  return pipe_->part_bytes_;
}

void Writer::take_part() {
  std::uint64_t size = 0;
  {
    const std::scoped_lock lock(pipe_->mutex_);
    if (pipe_->outcome_ || pipe_->written() != 0) return;
    size = std::exchange(pipe_->part_bytes_, 0);
  }
  if (size != 0) pipe_->publish(size);
}

void Writer::drop_part() {
  const std::scoped_lock lock(pipe_->mutex_);
  pipe_->part_bytes_ = 0;
}

std::optional<Error> Writer::unstored() const {
  const std::scoped_lock lock(pipe_->mutex_);
  return pipe_->unstored_;
}

Result<void> Writer::unstore(Error why) {
  if (pipe_->unstored()) return {};
  if (!pipe_->params_.unstored || !pipe_->become_unstored(position(), why)) return why;
  return {};
}

bool Writer::released() const { return pipe_->released(); }

std::uint64_t Writer::position() const noexcept { return pipe_->written(); }

const runtime::File& Writer::file() const { return pipe_->file(); }

const runtime::Path& Writer::path() const { return pipe_->path(); }

void Writer::release_file() {
  const std::scoped_lock lock(pipe_->mutex_);
  pipe_->released_ = true;
}

bool Writer::given_up() const { return pipe_->given_up_.position() != 0; }

bool Writer::abandoned() const noexcept { return pipe_->mark_.idle(); }

}  // namespace sluice::streamcache

// A pipe: one writer, any number of readers, one file between them.
//
// The writer appends; every reader starts at offset 0, or wherever it likes, and follows at its own pace. Nothing is
// copied from the writer to a reader: both use the same descriptor with explicit offsets (pwrite, pread, sendfile), so
// a reader keeps reading when the file has been renamed or unlinked. All that is coordinated are positions.
//
// Back-pressure. The writer waits once it is `window` bytes ahead of its front-runner, the reader that has come
// furthest, so the disk fills no faster than somebody reads. Slow readers hold up nobody. The front-runner's mark never
// goes back: when it leaves, the writer waits until a survivor has come within the window of where the writer stands.
// One call of write() is never split, so the writer may overshoot by its length; with a window of one byte it is one
// write ahead of the front-runner.
//
// Holding back. The last `hold_back` bytes are invisible until the producer has succeeded, and stay so for ever when it
// has failed. With one byte held back no reader can have received a complete body that turned out to be wrong. Where
// the size is known they are the last bytes of the whole, so that everything before is visible at once. A producer that
// is not sure what it gets calls hold_whole(): what is not visible yet then stays so until it has succeeded.
//
// Leaving. When the last reader leaves before everything was written, the pipe is abandoned: with Abandoned::fail the
// writer fails, at once if it is waiting and else with its next write; with Abandoned::finish it runs free and
// completes, and a new reader may join it. A reader that leaves when a reader has had every visible byte fails nobody,
// and neither does one that leaves when the writer has nothing left to write.
//
// Completing. What is written may be whole and right long before it is stored: complete() gives readers all of it,
// while the producer goes on to store it. From then on it has readers no more than it fails them: nobody who leaves
// abandons it, and a producer that fails later on fails nobody who has joined by then.
//
// Failing. Readers first get what there is, then the error. The pipe also fails where the producer says success but a
// write had failed, or the size is not the one announced.
//
// Unstored. Where the disk refuses a file or a write, and PipeParams::unstored is set, the pipe goes on in memory from
// there: what the file has stays readable, the rest passes through a window. From then on the slowest reader paces the
// writer, and the fill is abandoned with its last reader whatever was set. One reader must not hold up the others for
// ever: when the writer has waited for `unstored_patience` while somebody waits for more, those that are a window
// behind are cut off, with `overloaded`.
//
// Joining what is not stored. That takes its beginning, which stays in memory when all readers have had it: a window of
// it while the MemoryBudget is not used up, and all that is written while less than half of the budget is used. Beyond
// that the writer of a pipe that has several readers waits for `join_pause`, and again while another one has joined in
// that time, up to `join_time` in all. A single reader is never held up. Once the beginning is gone nobody can join,
// and only what some reader still needs is kept.
//
//   phase     from              writer                    readers
//   opening   construction      none yet                  may join, and wait
//   running   open()            write, set_size, …        join (unless abandoned and failing), read, leave
//   complete  complete()        may store, not write      join, read all, then end of file
//   finished  finish(success)   every call says closed    as above
//   failed    finish(error)     every call says closed    those there drain, then get the error; joining gets the error
//
// Threads: Pipe and its cursors are thread-safe. A Writer is used by one task, a Stream by one task at a time, each on
// any loop. Locks are held for a few instructions, never while somebody resumes and never around disk work.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.hpp"
#include "base/result.hpp"
#include "runtime/filesystem.hpp"
#include "runtime/task.hpp"
#include "streamcache/cursor.hpp"
#include "streamcache/metrics.hpp"
#include "streamcache/storage.hpp"

namespace sluice::streamcache {

class Pipe;
class Stream;
class Writer;

// What happens to a fill that nobody reads any more.
enum class Abandoned : std::uint8_t { fail, finish };

struct PipeParams {
  // How far the writer may be ahead of the front-runner; none: it never waits.
  std::optional<std::uint64_t> window_bytes = 8 * 1024 * 1024;
  // How many bytes at the end are invisible until the producer has succeeded. Never makes the window smaller.
  std::uint64_t hold_back_bytes = 0;
  Abandoned abandoned = Abandoned::fail;
  // A disk that refuses a file or a write makes the pipe unstored instead of failing it.
  bool unstored = false;
  // What all unstored pipes may hold; none: each a window.
  std::shared_ptr<MemoryBudget> memory = nullptr;
  std::chrono::milliseconds unstored_patience{5000};
  // How long an unstored pipe waits for more readers in all, and for the next one; see above.
  std::chrono::milliseconds join_time{1000};
  std::chrono::milliseconds join_pause{200};
};

// The writing end, which the producer ("fill") gets. Shared so that parts of a fill may hold on to it; used by one
// task.
class Writer {
 public:
  explicit Writer(std::shared_ptr<Pipe> pipe);
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // Waits while the window is full, then appends all of `bytes` and wakes readers. `bytes` must live until the task has
  // ended. Errors: abandoned, cancelled, no_space (also: held whole, not stored and longer than the window), io, closed
  // (after the producer has returned). After an error nothing
  // of `bytes` is visible, and the fill cannot succeed any more.
  //
  // Next::is_there: more is about to be written. Where many read, they are then woken for larger steps (kWakeBytes):
  // each wake-up costs each of them system calls. The caller says show() when the next bytes do not come at once.
  enum class Next : std::uint8_t { may_take_long, is_there };
  runtime::Task<Result<void>> write(std::span<const std::byte> bytes, Next next = Next::may_take_long);
  // Readers may have what was written, but for what is held back.
  void show();

  // From now on nothing becomes visible before complete(). There is no window then, so what is neither stored nor small
  // fails: see write(). Once is enough.
  void hold_whole();

  // The waiting part alone, so that a fill need not read from its source first. Same errors.
  runtime::Task<Result<void>> wait_window();

  // The expected total, once known; or none, once it is known that it will not be before the end. Wakes
  // Stream::wait_size. The first call counts.
  void set_size(std::optional<std::uint64_t> size_bytes);

  // All bytes are written and right: readers get those held back, and the end. What remains is to store them. Errors:
  // those of earlier writes, size_mismatch (it is not the announced one), closed; then nothing has changed.
  Result<void> complete();

  // Suspends until the fill is given up because its last reader has left (only with Abandoned::fail), or has ended: for
  // a fill that waits for something else than its window. Errors: cancelled.
  runtime::Task<Result<void>> wait_abandoned();

  // Goes on from a part: `file`, with `size_bytes` good bytes in it and called `path`, takes the place of the empty
  // file, which is removed by the cache. Only before the first write. Errors: closed, unsupported (no file here).
  Result<void> adopt(runtime::File file, runtime::Path path, std::uint64_t size_bytes);

  // A file that was opened with a part in it: how many bytes, which are as if they were not there until take_part()
  // makes them the first that were written, once, before any other write. drop_part() forgets them instead; they are
  // overwritten then, and the caller cuts off what would stay.
  [[nodiscard]] std::uint64_t part_bytes() const;
  void take_part();
  void drop_part();

  // Why the bytes written last, and those to come, are in memory alone (see above); none where all are in the file.
  [[nodiscard]] std::optional<Error> unstored() const;

  // Makes it so from the next write on, where PipeParams::unstored allows it. Error: `why` itself, where it does not,
  // or where nobody reads.
  Result<void> unstore(Error why);

  // Bytes written.
  [[nodiscard]] std::uint64_t position() const noexcept;
  // For reading behind the writer (a verifier), sync and rename. Both live as long as the pipe; not open and empty
  // where the bytes are in memory.
  [[nodiscard]] const runtime::File& file() const;
  [[nodiscard]] const runtime::Path& path() const;

  // The producer has taken the file over (renamed it into the store, or keeps the part): the cache does not remove it.
  void release_file();
  [[nodiscard]] bool released() const;
  // No reader is left at the moment.
  [[nodiscard]] bool abandoned() const noexcept;
  // The fill is being given up for that.
  [[nodiscard]] bool given_up() const;

 private:
  // Until the slowest reader of an unstored pipe has moved on, or was cut off.
  runtime::Task<Result<void>> wait_slowest(std::uint64_t move);

  const std::shared_ptr<Pipe> pipe_;
};

// One reader. Destroying it is closing it.
class Stream {
 public:
  // From Pipe::open_reader.
  explicit Stream(std::shared_ptr<Pipe> pipe);
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream();

  // Suspends until bytes past `position` may be read and returns the end of what may be read now; `position` itself
  // at the end of the file. To ask is also to advance(position): a reader that waits there has no need of what lies
  // before. Errors: the producer's, when everything visible lies before `position`; cancelled; closed.
  runtime::Task<Result<std::uint64_t>> wait_readable(std::uint64_t position);

  // The same, without advancing: what lies before `position` stays readable. Returns where the file ends when that is
  // not behind `position`. The caller knows that the window lets the writer go so far beyond what this reader has
  // advanced to.
  runtime::Task<Result<std::uint64_t>> wait_beyond(std::uint64_t position);

  // What may be read now, without waiting.
  [[nodiscard]] std::uint64_t readable() const noexcept;

  // Suspends until the producer has a file to write to. Errors: that of creating it, cancelled.
  runtime::Task<Result<void>> wait_open();

  // Suspends until the size is known, or known not to be known before the end (none). Errors: the producer's,
  // cancelled.
  runtime::Task<Result<std::optional<std::uint64_t>>> wait_size();

  // Up to where the bytes stand in file(); those behind it are for read_at alone. UINT64_MAX: all of them.
  [[nodiscard]] std::uint64_t stored_end() const noexcept;

  // What stands at `position`, at least a byte; it must be readable and not before where this reader has advanced to.
  // `bytes`, which is not empty, must live until the task has ended. Errors: io.
  runtime::Task<Result<std::size_t>> read_at(std::uint64_t position, std::span<std::byte> bytes);

  // The next bytes, 0 at the end. `bytes` must live until the task has ended. Errors: as wait_readable, and io.
  runtime::Task<Result<std::size_t>> read(std::span<std::byte> bytes);

  // How far this reader has read, or does not care to read. Drives the writer; never goes back.
  void advance(std::uint64_t position);

  // The writer's own descriptor, for pread and sendfile up to readable(). Not open before the first byte is readable,
  // and where the bytes are in memory. Lives as long as the stream is not destroyed.
  [[nodiscard]] const runtime::File& file() const;

  // The producer's result, which comes after the last byte: after complete() it says whether the bytes were stored.
  // Works on a closed stream too. Waiting is not reading: who only wants a fill to be done, alone, says
  // advance(UINT64_MAX) first. Errors: the producer's, cancelled.
  runtime::Task<Result<void>> wait();

  // The producer has ended, well or not.
  [[nodiscard]] bool finished() const noexcept;
  // This reader was too slow: what it has not read is gone.
  [[nodiscard]] bool cut_off() const noexcept { return cut_off_; }

  // Leaves the pipe. Idempotent; must not be called while another call on this stream is suspended.
  void close();

 private:
  friend class Pipe;

  const std::shared_ptr<Pipe> pipe_;
  std::uint64_t next_ = 0;                  // of read()
  std::atomic<std::uint64_t> reached_ = 0;  // of advance(); written by this reader's task
  std::atomic<bool> cut_off_ = false;       // it was too slow
  bool closed_ = false;
};

// Always owned by a shared_ptr.
class Pipe : public std::enable_shared_from_this<Pipe> {
 public:
  // `clock` outlives the writer, the registry behind `metrics` everything.
  Pipe(const PipeParams& params, const Clock& clock, const Metrics& metrics);
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe();

  // opening → running.
  void open(std::unique_ptr<Storage> storage, std::uint64_t part_bytes = 0);
  void open_unstored(Error why);
  // opening, running or complete → finished or failed, once; later calls are ignored. Returns the outcome: a success
  // can turn into a failure (see above).
  Result<void> finish(Result<void> outcome);
  // What finish(success) would return now.
  [[nodiscard]] Result<void> check() const;

  // Errors: abandoned (and failing for that), or the producer's.
  Result<std::unique_ptr<Stream>> open_reader();

  [[nodiscard]] std::uint64_t written() const noexcept { return written_.load(std::memory_order_acquire); }
  [[nodiscard]] std::size_t readers() const;
  // Those that have joined since the start, whether they are still there or not.
  [[nodiscard]] std::size_t readers_so_far() const;
  [[nodiscard]] bool ended() const noexcept;
  [[nodiscard]] bool given_up() const noexcept { return given_up_.position() != 0; }
  [[nodiscard]] bool unstored() const noexcept { return stored_end() != UINT64_MAX; }
  // As set_size told it.
  [[nodiscard]] std::optional<std::uint64_t> size() const;
  // The writer would have to wait for a reader now.
  [[nodiscard]] bool window_full() const { return mark_needed().has_value(); }
  // Suspends until finish(). Errors: cancelled.
  runtime::Task<Result<void>> wait_ended();
  // The storage, once open.
  [[nodiscard]] const runtime::File& file() const;
  [[nodiscard]] const runtime::Path& path() const;
  [[nodiscard]] bool released() const;
  // The storage that Writer::adopt replaced, at most once; else null.
  [[nodiscard]] std::unique_ptr<Storage> take_replaced();

  // Waiters, for tests.
  [[nodiscard]] const Cursor& visible() const noexcept { return visible_; }
  [[nodiscard]] const Cursor& mark() const noexcept { return mark_; }

 private:
  friend class Stream;
  friend class Writer;

  // How far the fill has come; positions of stage_.
  // From this many readers on, they are woken for steps of this size, or a quarter of the window.
  static constexpr std::size_t kManyReaders = 8;
  static constexpr std::uint64_t kWakeBytes = 1 << 20;

  enum Stage : std::uint64_t { kOpening, kOpen, kSizeKnown, kEnded };

  [[nodiscard]] Result<void> may_write();
  [[nodiscard]] std::uint64_t memory_window() const noexcept;
  void cut_off_laggards();
  [[nodiscard]] std::optional<std::uint64_t> mark_needed() const;
  [[nodiscard]] std::uint64_t stored_end() const noexcept { return stored_end_.load(std::memory_order_acquire); }
  Result<void> append(std::uint64_t at, std::span<const std::byte> bytes);
  bool become_unstored(std::uint64_t at, const Error& why);
  void pass_slowest();
  [[nodiscard]] bool has_beginning() const;
  [[nodiscard]] bool has_room_for_beginning() const;
  [[nodiscard]] bool expects_joins() const;
  [[nodiscard]] bool must_wait_for_joiners() const;
  void note_pause(std::size_t readers_before);
  void note_write_error(const Error& error);
  void publish(std::uint64_t written, bool at_once = true);
  void show();
  [[nodiscard]] bool may_wait(std::uint64_t written) const;
  void leave(Stream& stream);
  [[nodiscard]] bool all_read() const;
  [[nodiscard]] Result<void> check_locked() const;
  [[nodiscard]] Result<void> outcome() const;
  [[nodiscard]] Result<void> bytes_outcome() const;

  [[nodiscard]] std::uint64_t hold_back() const noexcept {
    return held_whole_.load(std::memory_order_relaxed) ? UINT64_MAX : params_.hold_back_bytes;
  }

  const PipeParams params_;
  std::atomic<bool> held_whole_{false};
  const Clock& clock_;
  const Metrics metrics_;

  Cursor visible_;  // what readers may see; moved by the writer
  Cursor mark_;     // how far the front-runner has read; moved by the readers
  Cursor stage_;
  Cursor given_up_;  // 1: abandoned, and failing for that
  Cursor slowest_;   // counts the moves of slowest_at_
  std::atomic<std::uint64_t> written_{0};
  std::atomic<std::uint64_t> stored_end_{UINT64_MAX};  // from here on bytes stand in tail_

  mutable std::mutex mutex_;          // guards everything below
  std::unique_ptr<Storage> storage_;  // set once before anything is visible, so readers use it without the lock
  std::unique_ptr<Storage> tail_;     // set once, before stored_end_
  std::unique_ptr<Storage> replaced_;
  std::optional<Error> unstored_;
  std::uint64_t slowest_at_ = 0;  // how far every reader has read, once unstored; goes back when one joins
  std::uint64_t slowest_moves_ = 0;
  std::int64_t pauses_left_;  // for which the writer may still wait for those who join
  std::uint64_t part_bytes_ = 0;
  std::vector<Stream*> streams_;
  std::size_t readers_so_far_ = 0;
  std::optional<std::uint64_t> size_;
  std::optional<Error> write_error_;
  std::optional<Result<void>> outcome_;
  bool released_ = false;
  bool complete_ = false;
  bool abandoned_ = false;  // and failing for that
};

}  // namespace sluice::streamcache

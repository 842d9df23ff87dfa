// A position that only grows, and those who wait for it to pass a point.
//
// A pipe has three: what readers may see (moved by the writer), how far the front-runner has read (moved by the
// readers), and how far the fill has come in its life. A wait ends when the position has passed the point, or when
// nobody is left who could move it: so a wait never outlives its reason.
//
//   idle     nobody is attached: waits return at once
//   moving   attach() one or more times, and as many detach() to become idle again; the position survives that
//
// "Return the new position or register a waiter" is one step under the lock, so no wake-up is lost. Waiters stand in
// the frames of the coroutines that wait, in one list for each loop; a move takes whole lists over and posts once to
// each loop that has somebody to wake, whatever their number. A loop wakes a few in a turn, then lets others have
// theirs, because each that wakes goes on to send a few hundred kilobytes.
//
// Threads: all functions are thread-safe. The lock is never held while a waiter resumes. Owned by a Pipe; a Cursor may
// be destroyed from within a waiter that it has woken.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "runtime/task.hpp"

namespace sluice::streamcache {

class Cursor {
 public:
  Cursor();
  Cursor(const Cursor&) = delete;
  Cursor& operator=(const Cursor&) = delete;
  ~Cursor();

  [[nodiscard]] std::uint64_t position() const noexcept;
  // Nobody is attached.
  [[nodiscard]] bool idle() const noexcept;

  // Moves to `position` and wakes who waited for less. Returns false, and does nothing, when it is not ahead.
  bool advance(std::uint64_t position);

  void attach();
  // The last one to detach wakes everybody.
  void detach();

  // Suspends until the position is greater than `past` or the cursor is idle, and returns the position: one that is not
  // greater says idle. Ends early with `cancelled` on a terminal cancellation of the calling coroutine. The cursor must
  // outlive the wait.
  runtime::Task<Result<std::uint64_t>> wait_past(std::uint64_t past);

  // How many wait, for tests.
  [[nodiscard]] std::size_t waiting() const;

 private:
  struct Group;
  struct State;
  struct Waiter;
  std::shared_ptr<State> state_;  // shared with the wake-ups that are posted
};

}  // namespace sluice::streamcache

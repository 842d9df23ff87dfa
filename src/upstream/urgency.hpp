// Urgency: of a download, or a question about a blob, that nobody waits for: nobody has asked for it yet, or all who
// did have left. It gets its turn when nobody else waits for one, until a client wants what it brings: then it is a
// request like others. A download gives its turn back when somebody waits; a question ends soon, and never looks.
//
//   state    waits for its turn         holds a turn
//   ahead    behind everybody           must_yield() once others wait: let go of the connection, ask again for the rest
//   raised   with others of its kind    keeps it
//
// lower() takes raise() back.
//
// Threads: all functions are thread-safe. Shared by the download, those who may want it, and Admission.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>

namespace sluice::upstream {

class Urgency {
 public:
  // Somebody waits for it now. Idempotent.
  void raise();
  [[nodiscard]] bool raised() const noexcept { return raised_.load(std::memory_order_acquire); }
  // Nobody waits for it any more. Idempotent.
  void lower();
  // Whether the turn that it holds is needed by somebody who is waited for.
  [[nodiscard]] bool must_yield() const noexcept { return yield_.load(std::memory_order_acquire) && !raised(); }

 private:
  friend class Admission;
  // Calls `on_raised` when it is raised, or now when it is already; null: nobody is called any more.
  void listen(std::function<void()> on_raised);
  // Calls `on_lowered` when it is lowered, or with `at_once` now when it is not raised; null: nobody is called any
  // more.
  void hold(std::function<void()> on_lowered, bool at_once);
  // False where it would not, or has been asked before.
  bool ask_to_yield() noexcept { return !raised() && !yield_.exchange(true, std::memory_order_acq_rel); }

  std::atomic<bool> raised_{false};
  std::atomic<bool> yield_{false};
  std::mutex mutex_;  // guards what follows, and is held while it is called: taken before the lock of an Admission
  std::function<void()> on_raised_;
  std::function<void()> on_lowered_;  // of the turn that it holds
};

}  // namespace sluice::upstream

// Silence: what is known of an endpoint, one of several, that gave no answer in time. Others are asked first then, and
// requests that wait for it go on to them. GET /v2/ in the background finds out when it answers again; then one request
// at a time shows whether it answers those as well.
//
//   well ──no answer in time──▶ silent ──/v2/ is answered──▶ on trial
//    ▲                          │   ▲                         │   │
//    └───────any answer─────────┘   └────no answer in time────┘   └──any answer──▶ well
//
// The pause between two trials is doubled with each that ends in silence, and starts again from "well".
//
// Threads: all functions are thread-safe. The Clock outlives it, and it outlives the waits in found().
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "base/clock.hpp"
#include "runtime/task.hpp"
#include "upstream/breaker.hpp"

namespace sluice::upstream {

class Silence {
 public:
  Silence(const Breaker::Params& params, const Clock& clock) : params_(params), clock_(clock) {}
  Silence(const Silence&) = delete;
  Silence& operator=(const Silence&) = delete;

  [[nodiscard]] bool is_well() const;
  [[nodiscard]] bool is_on_trial() const;
  // Whether this endpoint comes before others. On trial it says true once in a pause: that caller's request is the
  // trial.
  [[nodiscard]] bool goes_first();
  // A request got no answer in time. True: the caller starts the task that asks /v2/ for as long as goes_on() says so.
  [[nodiscard]] bool note();
  // A request got an answer, whatever it says.
  void heard();
  // /v2/ was answered in the background.
  void answers_plain();
  // For the task: whether it asks once more. After a false, note() asks for another one.
  [[nodiscard]] bool goes_on();

  // Ends when wake() is called, or the task is cancelled.
  runtime::Task<void> found();
  void wake();

 private:
  enum class State : std::uint8_t { well, silent, on_trial };
  struct Waiter;
  class Place;

  const Breaker::Params params_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards what follows
  State state_ = State::well;
  std::size_t times_ = 0;  // that it was found silent since it was well
  Clock::Monotonic next_trial_{};
  bool is_asked_ = false;  // the task runs
  std::vector<std::shared_ptr<Waiter>> waiters_;
};

}  // namespace sluice::upstream

// RedisBreaker: whether Redis is asked at all. One for all loops.
//
//   closed ──failed(), or nonsense() so often in a row──▶ open ──the pause is over: one caller is told to probe──▶
//   probing ──probe_succeeded()──▶ closed
//           ──probe_failed()─────▶ open, for twice as long
//
// While it is not closed nobody waits for Redis: the probe is a connection of its own, not somebody's request. What is
// reported of requests that were admitted before the last opening is late news and changes nothing.
//
// Thread-safe; admit() is one atomic load while it is closed.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <random>
#include <string_view>

#include "base/clock.hpp"
#include "base/metrics.hpp"

namespace sluice::descriptors {

class RedisBreaker {
 public:
  struct Params {
    std::chrono::milliseconds first_pause{250};
    std::chrono::milliseconds last_pause{5000};
    // So many answers of the wrong kind with no proper one between them are more than a spoilt key.
    unsigned nonsense_limit = 8;
  };

  // `open` is 1 while it is not closed; `skipped` counts who was refused.
  RedisBreaker(const Params& params, const Clock& clock, metrics::Gauge& open, metrics::Counter& skipped);
  RedisBreaker(const RedisBreaker&) = delete;
  RedisBreaker& operator=(const RedisBreaker&) = delete;

  struct Ticket {
    bool admitted = false;
    bool probe = false;       // not admitted, and it falls to the caller to probe
    std::uint64_t epoch = 0;  // to report with
  };
  Ticket admit();

  void succeeded(std::uint64_t epoch) noexcept;
  void failed(std::uint64_t epoch, std::string_view why);
  void nonsense(std::uint64_t epoch, std::string_view why);

  // A connection was made and answered in time, whoever wanted it.
  void probe_succeeded();
  void probe_failed();

  [[nodiscard]] bool closed() const noexcept { return state_.load(std::memory_order_acquire) == State::closed; }

 private:
  enum class State : std::uint8_t { closed, open, probing };

  void open(std::string_view why);
  [[nodiscard]] std::chrono::nanoseconds jittered();

  const Params params_;
  const Clock& clock_;
  metrics::Gauge& open_gauge_;
  metrics::Counter& skipped_;

  std::atomic<State> state_{State::closed};     // written under mutex_
  std::atomic<std::uint64_t> epoch_{0};         // written under mutex_
  std::atomic<unsigned> nonsense_in_a_row_{0};  // of the present epoch, roughly

  std::mutex mutex_;  // guards what follows
  std::chrono::milliseconds pause_;
  Clock::Monotonic opened_at_;
  Clock::Monotonic probe_at_;
  Clock::Monotonic closed_at_;
  std::uint64_t skipped_before_ = 0;  // the counter when it opened
  std::minstd_rand random_{std::random_device{}()};
};

}  // namespace sluice::descriptors

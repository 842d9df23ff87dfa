// Breaker: whether an endpoint is worth asking. It remembers an outage, so that it costs one request and not each.
//
//   closed ──failures──▶ open ──the pause is over──▶ half-open: one request goes through, the probe
//     ▲                   ▲                              │
//     │                   └────────── it failed, the pause is doubled, or it was given up ──┤
//     └───────────────────────────────────── it succeeded ──────────────────────────────────┘
//
// Several failures in a row open it, or one timeout when nothing has succeeded since that request began: waiting is
// what makes an outage expensive. Any success closes it.
//
// Threads: all functions are thread-safe. The Clock outlives it, and it outlives its Permits.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include "base/clock.hpp"

namespace sluice::upstream {

class Breaker {
 public:
  struct Params {
    std::size_t threshold = 5;  // failures in a row
    std::chrono::milliseconds first_pause{1'000};
    std::chrono::milliseconds longest_pause{30'000};
  };
  enum class Failure : std::uint8_t {
    quick,    // refused, broken off, 5xx
    timeout,  // nothing came for as long as one waits
  };

  // The right to send one request. How it went is said once; a Permit that is dropped without that has told nothing.
  class Permit {
   public:
    Permit(Permit&& other) noexcept
        : breaker_(std::exchange(other.breaker_, nullptr)), begun_(other.begun_), probe_(other.probe_) {}
    Permit& operator=(Permit&&) = delete;
    Permit(const Permit&) = delete;
    Permit& operator=(const Permit&) = delete;
    ~Permit();

    // How many probes in a row have failed before this one, where it is a probe.
    [[nodiscard]] std::optional<std::size_t> probe() const noexcept { return probe_; }

    // True when this has closed the breaker.
    bool succeeded();
    // True when this has opened it.
    bool failed(Failure failure);

   private:
    friend class Breaker;
    Permit(Breaker& breaker, Clock::Monotonic begun, std::optional<std::size_t> probe)
        : breaker_(&breaker), begun_(begun), probe_(probe) {}
    Breaker* breaker_;
    Clock::Monotonic begun_;
    std::optional<std::size_t> probe_;
  };

  Breaker(const Params& params, const Clock& clock) : params_(params), clock_(clock) {}
  Breaker(const Breaker&) = delete;
  Breaker& operator=(const Breaker&) = delete;

  // Nothing while it is open, or while a probe is under way.
  [[nodiscard]] std::optional<Permit> enter();

  // Whether it lets everything through.
  [[nodiscard]] bool is_closed() const;
  // For how long it will let nothing through; zero when it is closed. While a probe is under way, the pause that a
  // failure of it would begin.
  [[nodiscard]] std::chrono::nanoseconds pause_left() const;

  // A failure that no Permit stands for any more: a body that broke.
  // True when this has opened it.
  bool note_failure();

 private:
  enum class State : std::uint8_t { closed, open, probing };

  bool open_if_due(bool at_once);
  [[nodiscard]] std::chrono::nanoseconds pause() const;
  void give_up(bool probe) noexcept;

  const Params params_;
  const Clock& clock_;

  mutable std::mutex mutex_;  // guards what is below
  State state_ = State::closed;
  std::size_t failures_ = 0;       // in a row, while closed
  std::size_t probes_failed_ = 0;  // in a row, since it opened
  Clock::Monotonic next_probe_;    // while open
  std::optional<Clock::Monotonic> last_success_;
};

}  // namespace sluice::upstream

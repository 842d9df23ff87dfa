// Breaker: whether an endpoint is worth asking. It remembers an outage, so that it costs one request and not each.
//
//   closed ──failures──▶ open ──the pause is over──▶ half-open: one request goes through, the probe
//     ▲                   ▲                              │
//     │                   └────────── it failed, the pause is doubled, or it was given up ──┤
//     └───────────────────────────────────── it succeeded ──────────────────────────────────┘
//
// Several failures in a row are a reason to open it. A failure is about a thing that was asked for, and one thing
// counts once however often it fails: a blob that the registry has lost is no outage. Silence, no head of an answer in
// time, opens it when it meets two things and nothing has succeeded since they were asked for: waiting is what makes an
// outage expensive, but one slow thing is no outage either. After that, things that have not been silent need not wait
// for the end of the first pause: each may be a probe, until one is silent too. Connections that fail open it by
// themselves, and an endpoint to which no connection can be made in time is down at once. Any success closes it.
//
// Clients choose what is asked for. One who asks for many things that always fail must not shut out everybody else, so
// bad answers alone never open it: they put it in doubt. Whoever takes the Check (begin_check) asks the endpoint for
// something that no client has chosen, and says what came of it: only if that fails too the breaker opens. In the same
// way a probe may have failed by its thing alone: absolve() closes the breaker then. Until something succeeds, the
// pauses go on from where they were.
//
// A thing that stays silent while others are answered has a pause of its own (rest()).
//
// Threads: all functions are thread-safe. The Clock outlives it, and it outlives its Permits.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/clock.hpp"

namespace sluice::upstream {

class Breaker {
 public:
  struct Params {
    std::size_t threshold = 5;     // failures in a row, of different things
    std::size_t silent_limit = 2;  // silent things
    std::chrono::milliseconds first_pause{1'000};
    std::chrono::milliseconds longest_pause{30'000};

    // Doubled with each failure.
    [[nodiscard]] std::chrono::nanoseconds pause(std::size_t failed) const {
      const auto doubled = first_pause * (std::int64_t{1} << std::min<std::size_t>(failed, 20));
      return std::min<std::chrono::nanoseconds>(doubled, longest_pause);
    }
  };
  enum class Failure : std::uint8_t {
    answer,         // 5xx, or broken off before the end of a head: about the thing
    silence,        // no head in time: about the thing
    no_connection,  // refused, reset, no such name: about the endpoint
    connect_timeout,
  };
  // What is asked for, as a number that is different for different things, as good as always.
  using Thing = std::size_t;
  static Thing thing(std::string_view path) noexcept { return std::hash<std::string_view>{}(path); }

  // The doubt whether the endpoint is down, in the hands of one who asks it. The Breaker outlives it. One that is
  // dropped without an outcome leaves the doubt to the next.
  class Check {
   public:
    Check(Check&& other) noexcept : breaker_(std::exchange(other.breaker_, nullptr)) {}
    Check& operator=(Check&&) = delete;
    Check(const Check&) = delete;
    Check& operator=(const Check&) = delete;
    ~Check();

    // The endpoint answers: what had failed were the things. They count no more.
    void answers();
    // It does not. True when this has opened the breaker.
    bool fails();

   private:
    friend class Breaker;
    explicit Check(Breaker& breaker) : breaker_(&breaker) {}
    Breaker* breaker_;
  };

  // The right to send one request. How it went is said once; a Permit that is dropped without that has told nothing.
  class Permit {
   public:
    Permit(Permit&& other) noexcept
        : breaker_(std::exchange(other.breaker_, nullptr)),
          begun_(other.begun_),
          thing_(other.thing_),
          probe_(other.probe_),
          role_(other.role_) {}
    Permit& operator=(Permit&&) = delete;
    Permit(const Permit&) = delete;
    Permit& operator=(const Permit&) = delete;
    ~Permit();

    // It is what a half-open breaker waits for.
    [[nodiscard]] bool is_alone() const noexcept { return role_ == Role::alone; }
    // How many tries in a row have failed before this one, where it is a probe, or asks for a thing that was silent.
    [[nodiscard]] std::optional<std::size_t> probe() const noexcept { return probe_; }

    // True when this has closed the breaker.
    bool succeeded();
    // True when this has opened it.
    bool failed(Failure failure);

   private:
    friend class Breaker;
    // `spared`: let through while it was open. `alone`: is what a half-open one waits for.
    enum class Role : std::uint8_t { usual, spared, alone };
    Permit(Breaker& breaker, Clock::Monotonic begun, Thing thing, std::optional<std::size_t> probe, Role role)
        : breaker_(&breaker), begun_(begun), thing_(thing), probe_(probe), role_(role) {}
    Breaker* breaker_;
    Clock::Monotonic begun_;
    Thing thing_;
    std::optional<std::size_t> probe_;
    Role role_;
  };

  Breaker(const Params& params, const Clock& clock) : params_(params), clock_(clock) {}
  Breaker(const Breaker&) = delete;
  Breaker& operator=(const Breaker&) = delete;

  // Nothing while it is open, while a probe is under way, or while the thing rests. `again`: the same request for it
  // has been let in before, so its rest does not count.
  [[nodiscard]] std::optional<Permit> enter(Thing thing, bool again = false);
  // For a request that is sent whatever the state.
  [[nodiscard]] Permit watch(Thing thing);

  // Whether it lets everything through, but what rests.
  [[nodiscard]] bool is_closed() const;
  // Whether it is open and nothing says that others would be answered: not only some things are silent.
  [[nodiscard]] bool is_down() const;
  // For how long it will not let the thing through; zero when it will. While a probe is under way, the pause that a
  // failure of it would begin.
  [[nodiscard]] std::chrono::nanoseconds pause_left(Thing thing) const;

  // A probe has failed, and yet the endpoint answers otherwise. True when this has closed it.
  bool absolve();
  // To be asked for after each failure. The Check, where enough has failed to open the breaker and bad answers alone
  // must not; nothing while another one has it, or for a first pause after one that was answered.
  [[nodiscard]] std::optional<Check> begin_check();
  // A failure that no Permit stands for any more: a body that broke.
  void note_failure(Thing thing);
  // All tries for that thing have ended in silence: it is not asked for again for a pause, which doubles each time.
  void rest(Thing thing);

 private:
  enum class State : std::uint8_t { closed, open, probing };
  struct Rest {
    Clock::Monotonic until;
    std::size_t times = 0;
  };
  static constexpr std::size_t kMaxResting = 256;
  static constexpr std::size_t kMaxFailed = 256;

  bool count(Failure failure, Thing thing, bool nothing_since);
  [[nodiscard]] bool has_reason() const { return failed_.size() + unconnected_ >= params_.threshold; }
  bool open();
  void give_up() noexcept;

  const Params params_;
  const Clock& clock_;

  mutable std::mutex mutex_;  // guards what is below
  State state_ = State::closed;
  std::unordered_set<Thing> failed_;         // in a row, while closed; bounded by kMaxFailed
  std::unordered_set<Thing> silent_;         // of those; kept while open
  std::size_t unconnected_ = 0;              // in a row, while closed
  std::unordered_map<Thing, Rest> resting_;  // bounded by kMaxResting
  bool checking_ = false;                    // somebody has the Check
  Clock::Monotonic next_check_;
  bool spares_others_ = false;     // while open: who was never silent may pass
  std::size_t probes_failed_ = 0;  // since the last success
  Clock::Monotonic next_probe_;    // while open
  std::optional<Clock::Monotonic> last_success_;
};

}  // namespace sluice::upstream

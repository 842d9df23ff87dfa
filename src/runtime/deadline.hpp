// Time-outs that cost a store on the hot path.
//
// A Deadline says "call me when it is past this time". Arming it writes a time; a loop looks at all of its deadlines
// once in a tick (100 ms), so one fires up to two ticks late, never early. That suits the time-outs of connections
// (seconds to minutes), of which there are thousands and nearly none of which ever fires.
//
// Threads: the loop's thread alone. A Deadline belongs to whoever waits and must be destroyed before its loop.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

namespace sluice::runtime {

class Loop;
class Deadline;

// The deadlines of one loop; part of the Loop.
class Deadlines {
 public:
  Deadlines(Loop& loop, std::chrono::milliseconds tick);
  Deadlines(const Deadlines&) = delete;
  Deadlines& operator=(const Deadlines&) = delete;
  ~Deadlines();

 private:
  friend class Deadline;
  struct Timer;

  void add(Deadline& deadline) noexcept;
  void remove(Deadline& deadline) noexcept;
  void schedule();
  void sweep();

  const std::chrono::milliseconds tick_;
  Deadline* first_ = nullptr;  // intrusive, doubly linked, unordered
  Deadline* next_in_sweep_ = nullptr;
  bool scheduled_ = false;
  std::unique_ptr<Timer> timer_;
};

class Deadline {
 public:
  using Duration = std::chrono::steady_clock::duration;

  // `on_expiry` runs on the loop's thread, once for each arming that runs out; it may arm, disarm or destroy any
  // deadline, this one too. It usually cancels or closes a socket.
  Deadline(Loop& loop, std::function<void()> on_expiry);
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;
  ~Deadline();

  // From now on for `duration`; replaces an earlier arming and clears expired(). Zero or less disarms.
  void arm(Duration duration);
  void disarm() noexcept { at_ = kNever; }

  // The last arming ran out.
  [[nodiscard]] bool expired() const noexcept { return expired_; }

 private:
  friend class Deadlines;
  using TimePoint = std::chrono::steady_clock::time_point;
  static constexpr TimePoint kNever = TimePoint::max();

  Deadlines& deadlines_;
  std::function<void()> on_expiry_;
  TimePoint at_ = kNever;
  bool expired_ = false;
  Deadline* previous_ = nullptr;
  Deadline* next_ = nullptr;
};

}  // namespace sluice::runtime

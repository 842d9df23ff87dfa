// Admission: how many requests one upstream gets at a time, and how many a second, and who waits in the meantime.
//
// There are three lanes: heavy requests carry blobs and last, light ones are HEADs and manifests that somebody waits
// for; those ahead carry blobs, or ask about them, and nobody waits for them yet. A part of the slots is never given to
// heavy ones, and where both wait the light ones come first, but for every fourth turn. Those ahead get at most half of
// the slots, only while nobody waits in another lane, and are asked to give them back when somebody has to, where they
// carry blobs. Within a lane the clients for whom requests are made take turns (base/fair_queue.hpp).
//
// Threads: all functions are thread-safe; enter() from tasks on any loop. Outlives all Turns and waits.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/clock.hpp"
#include "base/fair_queue.hpp"
#include "base/metrics.hpp"
#include "base/network.hpp"
#include "base/result.hpp"
#include "runtime/task.hpp"
#include "upstream/urgency.hpp"

namespace sluice::upstream {

enum class Lane : std::uint8_t { light, heavy, ahead };
inline constexpr std::size_t kLanes = 3;

// The rules without the waiting. Not thread-safe.
class AdmissionRules {
 public:
  struct Params {
    std::size_t slots = 64;
    double per_second = 0;  // 0: as many as there are. A second's worth may come at once.
  };

  AdmissionRules(const Params& params, Clock::Monotonic now);

  // Whether a request of that lane may begin now, and begins; `others_wait` says whether some of another lane do, those
  // ahead left aside.
  bool begin(Lane lane, bool others_wait, Clock::Monotonic now);
  void end(Lane lane) noexcept;
  // A request that has begun in one lane goes on in another.
  void move(Lane from, Lane to) noexcept;
  // Whether the slots would let one in.
  [[nodiscard]] bool has_slot(Lane lane) const noexcept;

  // How long until the rate allows another one; zero when it is not what stands in the way.
  [[nodiscard]] std::chrono::nanoseconds until_next(Clock::Monotonic now);
  // Which lane is looked at first when both wait.
  [[nodiscard]] Lane preferred() const noexcept { return in_a_row_ >= kLightInARow ? Lane::heavy : Lane::light; }
  // Slots that heavy requests never get.
  [[nodiscard]] std::size_t reserved() const noexcept { return reserved_; }

 private:
  static constexpr std::size_t kLightInARow = 3;
  void refill(Clock::Monotonic now);

  const Params params_;
  const std::size_t reserved_;
  std::array<std::size_t, kLanes> active_{};  // by lane
  std::size_t in_a_row_ = 0;                  // light ones begun while heavy ones waited
  double tokens_;
  Clock::Monotonic filled_at_;
};

class Admission {
 public:
  struct Params {
    AdmissionRules::Params rules;
    std::chrono::milliseconds patience{30'000};  // of who waits
  };

  class Turn {
   public:
    Turn() = default;
    Turn(Turn&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), lane_(other.lane_), urgency_(std::move(other.urgency_)) {}
    Turn& operator=(Turn&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(lane_, other.lane_);
      std::swap(urgency_, other.urgency_);
      return *this;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
      if (owner_ != nullptr) owner_->leave(lane_, urgency_);
    }

    // Whether somebody waits for a slot. False of one that is empty.
    [[nodiscard]] bool is_wanted() const { return owner_ != nullptr && owner_->is_wanted(); }

   private:
    friend class Admission;
    Turn(Admission& owner, Lane lane, std::shared_ptr<Urgency> urgency) noexcept
        : owner_(&owner), lane_(lane), urgency_(std::move(urgency)) {}
    Admission* owner_ = nullptr;
    Lane lane_ = Lane::light;
    std::shared_ptr<Urgency> urgency_;  // of one that is ahead, or may become so; else null
  };

  // `wait_seconds` and `waiting` may be null.
  Admission(const Params& params, const Clock& clock, metrics::Histogram* wait_seconds, metrics::Gauge* waiting);
  ~Admission();
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // With an `urgency` that is not raised it is a request ahead, whatever the lane, until it is raised: then it waits in
  // `lane`, and `patience` counts anew. One that is lowered while it has its turn goes on as one ahead. Who asks for
  // somebody that waits until a certain time waits no longer than that. `client`: for whom it is, as in
  // IpAddress::client_key. Errors: overloaded, when the turn did not come in time; cancelled.
  runtime::Task<Result<Turn>> enter(Lane lane, std::shared_ptr<Urgency> urgency = nullptr,
                                    std::optional<std::chrono::steady_clock::time_point> latest = std::nullopt,
                                    IpAddress client = {});

 private:
  struct Waiter;
  class Membership;
  using Queue = FairQueue<std::shared_ptr<Waiter>>;
  // One ahead that holds a turn.
  struct Ahead {
    std::shared_ptr<Urgency> urgency;
    bool yields;  // it looks at must_yield(): a download does, a question ends soon
  };

  [[nodiscard]] bool is_wanted();
  void leave(Lane lane, const std::shared_ptr<Urgency>& urgency);
  void end(Lane lane, const std::shared_ptr<Urgency>& urgency);
  void wake_next();
  // `raised`: the lane in which it is when it is raised.
  [[nodiscard]] bool begin(Lane lane, Lane raised, const std::shared_ptr<Urgency>& urgency);
  [[nodiscard]] std::vector<Ahead>::iterator find_ahead(const std::shared_ptr<Urgency>& urgency);
  void ask_to_yield(Lane lane);
  void hurry(const std::shared_ptr<Waiter>& waiter);
  Turn make_turn(Lane lane, const std::shared_ptr<Urgency>& urgency);
  void lower(const std::shared_ptr<Urgency>& urgency, Lane lane);
  [[nodiscard]] std::chrono::nanoseconds next_look();

  const Params params_;
  const Clock& clock_;
  metrics::Histogram* const wait_seconds_;
  metrics::Gauge* const waiting_;

  std::mutex mutex_;  // guards what is below
  AdmissionRules rules_;
  std::array<Queue, kLanes> queues_;  // by lane
  std::vector<Ahead> ahead_;          // oldest first
};

}  // namespace sluice::upstream

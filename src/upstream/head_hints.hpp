// HeadHints: whether a registry's HEADs are worth sending, for one kind of content. What a GET had to settle is asked
// for by GET for a while, longer each time. When that happens to several different things, with no HEAD of use between
// them, it is the registry's habit, and no HEADs are sent for a while. A HEAD that failed in a way that passes (5xx,
// 429, no answer) counts when it did so twice in a row. Also whether what its heads tell, such as a digest, is to be
// believed.
//
// Thread-safe. The Clock outlives it. Owned by an Exchange.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "base/clock.hpp"

namespace sluice::upstream {

class HeadHints {
 public:
  static constexpr std::chrono::minutes kFirstPause{1};
  static constexpr std::chrono::minutes kLongestPause{60};
  static constexpr std::size_t kMaxThings = 1024;  // that are remembered

  // `things`: how many different ones make a habit.
  HeadHints(const Clock& clock, std::size_t things) : clock_(clock), things_of_habit_(things) {}

  // `thing`: what is asked for, in any spelling that is always the same.
  [[nodiscard]] bool are_useful(std::string_view thing) const;
  void was_useful(std::string_view thing);
  // A GET has had an answer where the HEAD before it had none that could be used.
  void was_useless(std::string_view thing, bool passes);

 private:
  using Thing = std::size_t;  // its hash
  struct Pause {
    Clock::Monotonic until{};
    std::size_t in_a_row = 0;
  };
  static Thing hash(std::string_view thing) noexcept { return std::hash<std::string_view>{}(thing); }
  void extend(Pause& pause) const;

  const Clock& clock_;
  const std::size_t things_of_habit_;
  mutable std::mutex mutex_;                 // guards what follows
  Pause all_;                                // of all HEADs
  std::unordered_map<Thing, Pause> things_;  // of HEADs for one thing; bounded by kMaxThings
  std::unordered_set<Thing> useless_;        // different ones since a HEAD was of use; bounded by things_of_habit_
  bool failed_before_ = false;               // the last one in a way that passes
};

}  // namespace sluice::upstream

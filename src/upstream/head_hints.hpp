// HeadHints: whether a registry's HEADs are worth sending, for one kind of content. One that a GET had to settle is not
// sent again for a while, longer each time. A HEAD that failed in a way that passes (5xx, 429, no answer) counts when
// it did so twice in a row. Also whether what its heads tell, such as a digest, is worth being believed.
//
// Thread-safe. The Clock outlives it. Owned by an Exchange.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>

#include "base/clock.hpp"

namespace sluice::upstream {

class HeadHints {
 public:
  static constexpr std::chrono::minutes kFirstPause{1};
  static constexpr std::chrono::minutes kLongestPause{60};

  explicit HeadHints(const Clock& clock) : clock_(clock) {}

  [[nodiscard]] bool are_useful() const;
  void was_useful();
  // A GET has had an answer where the HEAD before it had none that could be used.
  void was_useless(bool passes);

 private:
  const Clock& clock_;
  mutable std::mutex mutex_;  // guards what follows
  Clock::Monotonic not_before_{};
  std::size_t in_a_row_ = 0;
  bool failed_before_ = false;  // the last one in a way that passes
};

}  // namespace sluice::upstream

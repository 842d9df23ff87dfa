#include "upstream/head_hints.hpp"

#include <algorithm>
#include <utility>

namespace sluice::upstream {

bool HeadHints::are_useful(std::string_view thing) const {
  const std::scoped_lock lock(mutex_);
  const Clock::Monotonic now = clock_.now();
  if (now < all_.until) return false;
  const auto at = things_.find(hash(thing));
  return at == things_.end() || now >= at->second.until;
}

void HeadHints::was_useful(std::string_view thing) {
  const std::scoped_lock lock(mutex_);
  all_.in_a_row = 0;
  things_.erase(hash(thing));
  useless_.clear();
  failed_before_ = false;
}

void HeadHints::was_useless(std::string_view thing, bool passes) {
  const std::scoped_lock lock(mutex_);
  if (passes && !std::exchange(failed_before_, true)) return;
  const Thing key = hash(thing);
  // Only a shortcut: which one goes does not matter.
  if (things_.size() >= kMaxThings && !things_.contains(key)) things_.erase(things_.begin());
  extend(things_[key]);
  if (useless_.size() < things_of_habit_) useless_.insert(key);
  if (useless_.size() >= things_of_habit_) extend(all_);
}

// Under the lock.
void HeadHints::extend(Pause& pause) const {
  const auto doubled = kFirstPause * (1 << std::min<std::size_t>(pause.in_a_row++, 6));
  pause.until = clock_.now() + std::min(doubled, kLongestPause);
}

}  // namespace sluice::upstream

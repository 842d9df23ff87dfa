#include "upstream/head_hints.hpp"

#include <algorithm>
#include <utility>

namespace sluice::upstream {

bool HeadHints::are_useful() const {
  const std::scoped_lock lock(mutex_);
  return clock_.now() >= not_before_;
}

void HeadHints::was_useful() {
  const std::scoped_lock lock(mutex_);
  in_a_row_ = 0;
  failed_before_ = false;
}

void HeadHints::was_useless(bool passes) {
  const std::scoped_lock lock(mutex_);
  if (passes && !std::exchange(failed_before_, true)) return;
  const auto pause = kFirstPause * (1 << std::min<std::size_t>(in_a_row_++, 6));
  not_before_ = clock_.now() + std::min(pause, kLongestPause);
}

}  // namespace sluice::upstream

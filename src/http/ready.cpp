#include "http/ready.hpp"

#include <utility>
#include <vector>

namespace sluice::http {

void ReadyAnswers::keep(std::string_view head, std::shared_ptr<ReadyAnswer> answer) {
  if (head.size() > kMaxHeadBytes) return;
  const std::vector<std::shared_ptr<ReadyAnswer>> gone = answers_.insert(std::string(head), std::move(answer));
}

bool ReadyAnswers::comes_again(std::string_view head) noexcept {
  if (head.size() > kMaxHeadBytes) return false;
  const std::uint64_t hash = Hash{}(head);
  std::uint32_t& seen = seen_[hash % seen_.size()];
  const auto mark = static_cast<std::uint32_t>(hash >> 32U) | 1U;  // 0: nothing yet
  if (seen == mark) return true;
  seen = mark;
  return false;
}

}  // namespace sluice::http

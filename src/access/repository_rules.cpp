#include "access/repository_rules.hpp"

#include <algorithm>

#include "upstream/credentials.hpp"

namespace sluice::access {

void RepositoryRules::set(Patterns patterns) {
  const bool any = !patterns.allow.empty() || !patterns.deny.empty();
  auto shared = std::make_shared<const Patterns>(std::move(patterns));
  {
    const std::scoped_lock lock(mutex_);
    patterns_ = std::move(shared);
  }
  any_.store(any, std::memory_order_release);
  version_.changed();
}

bool RepositoryRules::permits(std::string_view repository) const {
  if (permit_all()) return true;
  std::shared_ptr<const Patterns> patterns;
  {
    const std::scoped_lock lock(mutex_);
    patterns = patterns_;
  }
  const auto fits = [repository](const std::string& pattern) {
    return upstream::matches_repository(pattern, repository);
  };
  if (std::any_of(patterns->deny.begin(), patterns->deny.end(), fits)) return false;
  return patterns->allow.empty() || std::any_of(patterns->allow.begin(), patterns->allow.end(), fits);
}

}  // namespace sluice::access

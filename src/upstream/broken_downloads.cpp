#include "upstream/broken_downloads.hpp"

#include <optional>

namespace sluice::upstream {

void BrokenDownloads::add(const std::string& digest, std::size_t endpoint, std::size_t endpoints) {
  if (endpoints < 2 || endpoint >= 64) return;
  const std::uint64_t all = endpoints >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << endpoints) - 1;
  const std::scoped_lock lock(mutex_);
  // Only a hint: which one goes does not matter.
  if (entries_.size() >= kMaxEntries && !entries_.contains(digest)) entries_.erase(entries_.begin());
  std::uint64_t& mask = entries_[digest];
  mask |= std::uint64_t{1} << endpoint;
  if (mask == all) mask = std::uint64_t{1} << endpoint;
}

void BrokenDownloads::came_from(const std::string& digest, std::size_t endpoint) {
  const std::scoped_lock lock(mutex_);
  came_from_.insert(digest, endpoint);
}

void BrokenDownloads::was_wrong(const std::string& digest, std::size_t endpoints) {
  std::optional<std::size_t> endpoint;
  {
    const std::scoped_lock lock(mutex_);
    if (const std::size_t* const found = came_from_.find(digest)) endpoint = *found;
  }
  if (endpoint) add(digest, *endpoint, endpoints);
}

std::uint64_t BrokenDownloads::of(const std::string& digest) const {
  const std::scoped_lock lock(mutex_);
  const auto at = entries_.find(digest);
  return at == entries_.end() ? 0 : at->second;
}

}  // namespace sluice::upstream

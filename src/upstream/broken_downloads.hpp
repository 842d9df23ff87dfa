// BrokenDownloads: which downloads broke at which endpoints, or came from there and were wrong, so that they go on
// elsewhere. Bounded.
//
// Threads: all functions are thread-safe. Owned by the Exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/sieve_map.hpp"

namespace sluice::upstream {

class BrokenDownloads {
 public:
  static constexpr std::size_t kMaxEntries = 1024;

  // `endpoints` is how many there are. When a download has broken everywhere, only the last place counts.
  void add(const std::string& digest, std::size_t endpoint, std::size_t endpoints);
  // That endpoint has begun to send it.
  void came_from(const std::string& digest, std::size_t endpoint);
  // The bytes that came last did not have the digest.
  void was_wrong(const std::string& digest, std::size_t endpoints);
  // The endpoints, by their bits, to be tried behind all others.
  [[nodiscard]] std::uint64_t of(const std::string& digest) const;

 private:
  mutable std::mutex mutex_;  // guards entries_ and came_from_
  std::unordered_map<std::string, std::uint64_t> entries_;
  SieveMap<std::string, std::size_t> came_from_{kMaxEntries};
};

}  // namespace sluice::upstream

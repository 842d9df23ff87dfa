// BrokenDownloads: which downloads broke at which endpoints, so that they go on elsewhere. Bounded.
//
// Threads: all functions are thread-safe. Owned by the Exchange.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace sluice::upstream {

class BrokenDownloads {
 public:
  static constexpr std::size_t kMaxEntries = 1024;

  // `endpoints` is how many there are. When a download has broken everywhere, only the last place counts.
  void add(const std::string& digest, std::size_t endpoint, std::size_t endpoints);
  // The endpoints, by their bits, to be tried behind all others.
  [[nodiscard]] std::uint64_t of(const std::string& digest) const;

 private:
  mutable std::mutex mutex_;  // guards entries_
  std::unordered_map<std::string, std::uint64_t> entries_;
};

}  // namespace sluice::upstream

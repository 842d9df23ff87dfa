// The eviction policy: SIEVE (Zhang et al., NSDI 2024) whose bit is a small count, so that size weighs.
//
// Blobs stand in the order in which they came. A hand goes from the oldest to the newest; a blob that has a life left
// loses one and stays, the first without one goes. A use gives all lives back and moves nothing. A large blob has one
// life, from its first use on; smaller ones have more, and some already when they come: keeping a thousand small ones
// costs less room than one large layer, and each spares a request. Measurements and reasons: docs/eviction.md.
//
// Pure functions, used by BlobIndex and by the simulation in tests/bench.
#pragma once

#include <cstdint>

namespace sluice::store {

inline constexpr std::uint64_t kSmallBlobBytes = 64 * 1024;
inline constexpr std::uint64_t kMiddlingBlobBytes = 1024 * 1024;

constexpr std::uint8_t lives_when_new(std::uint64_t size_bytes) noexcept {
  if (size_bytes < kSmallBlobBytes) return 3;
  return size_bytes < kMiddlingBlobBytes ? 1 : 0;
}

constexpr std::uint8_t lives_when_used(std::uint64_t size_bytes) noexcept {
  if (size_bytes < kSmallBlobBytes) return 7;
  return size_bytes < kMiddlingBlobBytes ? 3 : 1;
}

}  // namespace sluice::store

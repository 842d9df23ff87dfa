// BlobIndex: which blobs are at rest, in memory. A few tens of nanoseconds for a look-up, below 150 bytes an entry.
//
// Thread-safe: shards by digest, each under a lock that is held for one look-up. No I/O. Owned by the BlobStore.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>

#include "oci/digest.hpp"
#include "store/digest_map.hpp"
#include "store/media_types.hpp"

namespace sluice::store {

struct IndexEntry {
  std::uint64_t size = 0;       // bytes
  std::uint32_t last_used = 0;  // seconds since 1970, in steps of the store's touch granularity
  MediaTypes::Id media_type = MediaTypes::kOctetStream;
};

class BlobIndex {
 public:
  BlobIndex() = default;
  BlobIndex(const BlobIndex&) = delete;
  BlobIndex& operator=(const BlobIndex&) = delete;

  void reserve(std::size_t entries);
  void clear();

  [[nodiscard]] std::optional<IndexEntry> find(const oci::Digest& digest) const;
  // Inserts or replaces.
  void set(const oci::Digest& digest, const IndexEntry& entry);
  // False, and nothing changes, when it is there already.
  bool add(const oci::Digest& digest, const IndexEntry& entry);
  // What was there.
  std::optional<IndexEntry> erase(const oci::Digest& digest);
  // Moves last_used on to `now` when it is `granularity` seconds old or more; whether it did.
  bool touch(const oci::Digest& digest, std::uint32_t now, std::uint32_t granularity);

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t entries() const noexcept { return entries_.load(std::memory_order_relaxed); }

 private:
  struct alignas(64) Shard {
    mutable std::mutex mutex;  // guards map
    DigestMap<IndexEntry> map;
  };
  static constexpr std::size_t kShards = 16;

  // By two bytes of the digest itself: the map's own hash must not repeat what chose the shard.
  [[nodiscard]] Shard& shard(const oci::Digest& digest) const noexcept {
    return shards_[std::to_integer<std::size_t>(digest.raw()[31]) % kShards];
  }

  mutable std::array<Shard, kShards> shards_;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::size_t> entries_{0};
};

}  // namespace sluice::store

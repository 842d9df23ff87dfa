// BlobIndex: which blobs are at rest, in memory, and which of them goes first when room is needed. A few tens of
// nanoseconds for a look-up, below 80 bytes an entry.
//
// Thread-safe: shards by digest, each under a lock that is held for one look-up (idle_since: for a look at a sixteenth
// of all). Changes take the lock of the order as well. No I/O. Owned by the BlobStore.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>

#include "base/version.hpp"
#include "oci/digest.hpp"
#include "store/media_types.hpp"
#include "store/origin_sets.hpp"

namespace sluice::store {

struct IndexEntry {
  std::uint64_t size = 0;       // bytes
  std::uint32_t last_used = 0;  // seconds since 1970, in steps of the store's touch granularity
  MediaTypes::Id media_type = MediaTypes::kOctetStream;
  OriginSets::Id origins = OriginSets::kUnknown;
};

class BlobIndex {
 public:
  BlobIndex() = default;
  BlobIndex(const BlobIndex&) = delete;
  BlobIndex& operator=(const BlobIndex&) = delete;

  void reserve(std::size_t entries);
  void clear();

  [[nodiscard]] std::optional<IndexEntry> find(const oci::Digest& digest) const;
  // Over when the entry is replaced or erased; a use is no change.
  [[nodiscard]] Version::Watch watch(const oci::Digest& digest) const noexcept {
    return versions_.watch(hash_value(digest));
  }
  // Inserts as the newest, or replaces in place. What was there before.
  std::optional<IndexEntry> set(const oci::Digest& digest, const IndexEntry& entry);
  // False, and nothing changes, when it is there already.
  bool add(const oci::Digest& digest, const IndexEntry& entry);
  // What was there.
  std::optional<IndexEntry> erase(const oci::Digest& digest);
  // Notes a use. Moves last_used on to `now` when it is `granularity` seconds old or more; whether it did.
  bool touch(const oci::Digest& digest, std::uint32_t now, std::uint32_t granularity);

  struct Blob {
    oci::Digest digest;
    IndexEntry entry;
  };
  using Victim = Blob;
  // The blob that the policy (store/eviction_policy.hpp) gives up first; it stays in until it is erased. Nothing when
  // the index is empty.
  [[nodiscard]] std::optional<Victim> pick();
  // For one that was picked and cannot be removed: as if it had been used.
  void spare(const oci::Digest& digest);
  // Up to `limit` blobs that were last used before `before`.
  [[nodiscard]] std::vector<Victim> idle_since(std::uint32_t before, std::size_t limit) const;
  // Those whose digest begins with a byte from `first` to `last`, in the order of their digests. Takes each lock for
  // some thousand entries at a time, so it may or may not have what comes or goes meanwhile. The order is that of the
  // raw bytes, whatever the algorithm: before().
  [[nodiscard]] std::vector<Blob> between(std::uint8_t first, std::uint8_t last) const;
  [[nodiscard]] static bool before(const oci::Digest& a, const oci::Digest& b) noexcept;
  // All of them, in no order and under the same conditions. `visit` must not call back.
  void for_each(const std::function<void(const Blob&)>& visit) const;
  // After a restart: as if the blobs had come in the order of their last use.
  void order_by_last_use();

  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::size_t entries() const noexcept { return entries_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint32_t kShards = 16;
  class Shard;

  template <class F>
  void for_each_place(F visit) const;

  // By a byte of the digest itself: the set's own hash must not repeat what chose the shard.
  [[nodiscard]] Shard& shard(const oci::Digest& digest) const noexcept;

  struct ShardDeleter {
    void operator()(Shard* shards) const noexcept;
  };
  static Shard* make_shards();

  // The order of arrival across all shards.
  using Link = std::uint32_t;
  static constexpr Link kNobody = 0xffffffff;
  [[nodiscard]] Link link_to(const Shard& in, std::uint32_t id) const noexcept;
  [[nodiscard]] Shard& shard_of(Link link) const noexcept;
  void link_newest(Link link) noexcept;
  void unlink(Link link) noexcept;

  const std::unique_ptr<Shard, ShardDeleter> shards_{make_shards()};
  std::mutex order_mutex_;  // guards the order; taken before a shard's. Look-ups and uses do not need it.
  Link oldest_ = kNobody;
  Link newest_ = kNobody;
  Link hand_ = kNobody;
  std::atomic<std::uint64_t> bytes_{0};
  std::atomic<std::size_t> entries_{0};
  Versions versions_;  // by digest
};

}  // namespace sluice::store

#include "store/blob_index.hpp"

namespace sluice::store {

void BlobIndex::reserve(std::size_t entries) {
  for (Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    in.map.reserve(entries / kShards + 1);
  }
}

void BlobIndex::clear() {
  for (Shard& in : shards_) {
    const std::scoped_lock lock(in.mutex);
    in.map = {};
  }
  bytes_ = 0;
  entries_ = 0;
}

std::optional<IndexEntry> BlobIndex::find(const oci::Digest& digest) const {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const IndexEntry* found = in.map.find(digest);
  if (found == nullptr) return std::nullopt;
  return *found;
}

void BlobIndex::set(const oci::Digest& digest, const IndexEntry& entry) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const auto [value, made] = in.map.try_emplace(digest, entry);
  if (made) {
    entries_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(entry.size, std::memory_order_relaxed);
  } else {
    bytes_.fetch_add(entry.size - value->size, std::memory_order_relaxed);  // modulo 2^64, so less is right too
    *value = entry;
  }
}

bool BlobIndex::add(const oci::Digest& digest, const IndexEntry& entry) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  if (!in.map.try_emplace(digest, entry).second) return false;
  entries_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(entry.size, std::memory_order_relaxed);
  return true;
}

std::optional<IndexEntry> BlobIndex::erase(const oci::Digest& digest) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const IndexEntry* found = in.map.find(digest);
  if (found == nullptr) return std::nullopt;
  const IndexEntry was = *found;
  in.map.erase(digest);
  entries_.fetch_sub(1, std::memory_order_relaxed);
  bytes_.fetch_sub(was.size, std::memory_order_relaxed);
  return was;
}

bool BlobIndex::touch(const oci::Digest& digest, std::uint32_t now, std::uint32_t granularity) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  IndexEntry* found = in.map.find(digest);
  if (found == nullptr || now < found->last_used || now - found->last_used < granularity) return false;
  found->last_used = now;
  return true;
}

}  // namespace sluice::store

#include "store/open_files.hpp"

#include <algorithm>
#include <utility>

#include "base/sieve_map.hpp"

namespace sluice::store {

struct alignas(64) OpenFiles::Shard {
  explicit Shard(std::size_t capacity) : map(capacity) {}
  mutable std::mutex mutex;  // guards map
  SieveMap<oci::Digest, std::shared_ptr<const OpenBlob>> map;
};

namespace {
// A shard smaller than this evicts what is hot because its siblings have room.
constexpr std::size_t kMinFilesInShard = 32;
constexpr std::size_t kMaxShards = 8;
}  // namespace

OpenFiles::OpenFiles(std::size_t capacity) : capacity_(capacity) {
  const std::size_t count = std::clamp<std::size_t>(capacity / kMinFilesInShard, 1, kMaxShards);
  for (std::size_t i = 0; i < count; ++i) {
    shards_.push_back(std::make_unique<Shard>(capacity / count + (i < capacity % count ? 1 : 0)));
  }
}

OpenFiles::~OpenFiles() = default;

OpenFiles::Shard& OpenFiles::shard(const oci::Digest& digest) const noexcept {
  return *shards_[std::to_integer<std::size_t>(digest.raw().back()) % shards_.size()];
}

std::shared_ptr<const OpenBlob> OpenFiles::find(const oci::Digest& digest) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  std::shared_ptr<const OpenBlob>* found = in.map.find(digest);
  return found == nullptr ? nullptr : *found;
}

// In the two below a file that goes may be closed, which is I/O: after the lock, therefore.

void OpenFiles::insert(const oci::Digest& digest, std::shared_ptr<const OpenBlob> blob) {
  if (capacity_ == 0) return;
  std::vector<std::shared_ptr<const OpenBlob>> gone;
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  gone = in.map.insert(digest, std::move(blob));
}

void OpenFiles::erase(const oci::Digest& digest) {
  std::shared_ptr<const OpenBlob> gone;
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  gone = in.map.take(digest);
}

void OpenFiles::clear() {
  for (const auto& in : shards_) {
    const std::scoped_lock lock(in->mutex);
    in->map.clear();
  }
}

std::size_t OpenFiles::size() const {
  std::size_t sum = 0;
  for (const auto& in : shards_) {
    const std::scoped_lock lock(in->mutex);
    sum += in->map.size();
  }
  return sum;
}

}  // namespace sluice::store

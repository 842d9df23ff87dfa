#include "descriptors/memory_descriptor_cache.hpp"

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/sieve_map.hpp"

namespace sluice::descriptors {
namespace {

struct Key {
  std::string scope;
  oci::Digest digest;
};

struct KeyView {
  std::string_view scope;
  const oci::Digest& digest;
};

struct KeyHash {
  template <class K>
  std::size_t operator()(const K& key) const {
    // The digest's hash is seeded and mixed; the odd factor spreads the scope's over all bits before they meet.
    const std::size_t scope = std::hash<std::string_view>{}(key.scope);
    return hash_value(key.digest) ^ (scope * 0x9e3779b97f4a7c15U);
  }
};

struct KeyEqual {
  template <class A, class B>
  bool operator()(const A& a, const B& b) const {
    return a.digest == b.digest && std::string_view(a.scope) == std::string_view(b.scope);
  }
};

constexpr std::string_view kGlobal;
constexpr std::size_t kMaxShards = 16;
// A shard smaller than this evicts what is in use because its siblings have room.
constexpr std::size_t kMinEntriesInShard = 256;

}  // namespace

class MemoryDescriptorCache::Table {
 public:
  explicit Table(std::size_t max_entries) {
    const std::size_t count =
        max_entries == 0 ? kMaxShards : std::clamp<std::size_t>(max_entries / kMinEntriesInShard, 1, kMaxShards);
    for (std::size_t i = 0; i < count; ++i) {
      shards_.push_back(std::make_unique<Shard>(max_entries / count + (i < max_entries % count ? 1 : 0)));
    }
  }

  std::optional<Entry> find(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    const Entry* found = in.map.find(KeyView{scope, digest});
    if (found == nullptr) return std::nullopt;
    return *found;
  }

  Result<void> set(std::string_view scope, const oci::Digest& digest, const Entry& entry) {
    if (Result<void> valid = oci::validate(entry); !valid) return valid;
    bool new_globally = false;
    {
      Shard& in = shard(digest);
      const std::scoped_lock lock(in.mutex);
      if (!scope.empty()) in.map.insert(Key{std::string(scope), digest}, entry);
      new_globally = add_global(in, digest, entry);
    }
    if (new_globally && digest.algorithm() != entry.digest.algorithm()) {
      Shard& in = shard(entry.digest);
      const std::scoped_lock lock(in.mutex);
      add_global(in, entry.digest, entry);
    }
    return {};
  }

  void clear(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    in.map.take(KeyView{scope, digest});
  }

  void clear_all() {
    for (const auto& shard : shards_) {
      const std::scoped_lock lock(shard->mutex);
      shard->map.clear();
    }
  }

  [[nodiscard]] std::size_t entries() const {
    std::size_t sum = 0;
    for (const auto& shard : shards_) {
      const std::scoped_lock lock(shard->mutex);
      sum += shard->map.size();
    }
    return sum;
  }

 private:
  struct alignas(64) Shard {
    explicit Shard(std::size_t capacity) : map(capacity) {}
    std::mutex mutex;  // guards map
    SieveMap<Key, Entry, KeyHash, KeyEqual> map;
  };

  static bool add_global(Shard& in, const oci::Digest& digest, const Entry& entry) {
    if (in.map.contains(KeyView{kGlobal, digest})) return false;
    in.map.insert(Key{std::string(), digest}, entry);
    return true;
  }

  // All scopes of a digest share a shard, so that a scoped set is one step.
  Shard& shard(const oci::Digest& digest) {
    return *shards_[std::to_integer<std::size_t>(digest.raw().back()) % shards_.size()];
  }

  std::vector<std::unique_ptr<Shard>> shards_;
};

class MemoryDescriptorCache::Scoped final : public BlobDescriptorService {
 public:
  Scoped(std::shared_ptr<Table> table, Scope scope) : table_(std::move(table)), scope_(std::move(scope)) {}

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override {
    std::optional<Entry> found = table_->find(scope_.str(), digest);
    if (!found) co_return Error(Errc::blob_unknown);
    co_return std::move(*found);
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override {
    co_return table_->set(scope_.str(), digest, entry);
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override {
    table_->clear(scope_.str(), digest);
    co_return Result<void>();
  }

 private:
  std::shared_ptr<Table> table_;
  Scope scope_;
};

MemoryDescriptorCache::MemoryDescriptorCache(const Params& params)
    : table_(std::make_shared<Table>(params.max_entries)) {}

MemoryDescriptorCache::~MemoryDescriptorCache() = default;

runtime::Task<Result<Entry>> MemoryDescriptorCache::stat(oci::Digest digest) {
  std::optional<Entry> found = table_->find(kGlobal, digest);
  if (!found) co_return Error(Errc::blob_unknown);
  co_return std::move(*found);
}

runtime::Task<Result<void>> MemoryDescriptorCache::set_descriptor(oci::Digest digest, Entry entry) {
  co_return table_->set(kGlobal, digest, entry);
}

runtime::Task<Result<void>> MemoryDescriptorCache::clear(oci::Digest digest) {
  table_->clear(kGlobal, digest);
  co_return Result<void>();
}

Result<std::shared_ptr<BlobDescriptorService>> MemoryDescriptorCache::repository_scoped(std::string_view repository) {
  Result<Scope> scope = Scope::repository(repository);
  if (!scope) return scope.error();
  return std::shared_ptr<BlobDescriptorService>(std::make_shared<Scoped>(table_, std::move(*scope)));
}

void MemoryDescriptorCache::forget_all() { table_->clear_all(); }

std::optional<Entry> MemoryDescriptorCache::peek(const Scope& scope, const oci::Digest& digest) {
  return table_->find(scope.str(), digest);
}

Result<void> MemoryDescriptorCache::set_now(const Scope& scope, const oci::Digest& digest, const Entry& entry) {
  return table_->set(scope.str(), digest, entry);
}

void MemoryDescriptorCache::clear_now(const Scope& scope, const oci::Digest& digest) {
  table_->clear(scope.str(), digest);
}

std::size_t MemoryDescriptorCache::entries() const { return table_->entries(); }

}  // namespace sluice::descriptors

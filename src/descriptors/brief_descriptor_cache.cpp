#include "descriptors/brief_descriptor_cache.hpp"

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
    return hash_value(key.digest) ^ (std::hash<std::string_view>{}(key.scope) * 0x9e3779b97f4a7c15U);
  }
};
struct KeyEqual {
  template <class A, class B>
  bool operator()(const A& a, const B& b) const {
    return a.digest == b.digest && std::string_view(a.scope) == std::string_view(b.scope);
  }
};

constexpr std::size_t kMaxShards = 16;
// A shard smaller than this evicts what is in use because its siblings have room.
constexpr std::size_t kMinEntriesInShard = 256;

}  // namespace

class BriefDescriptorCache::Table {
 public:
  Table(const Params& params, const Clock& clock) : ttl_(params.ttl), clock_(clock) {
    const std::size_t max = params.max_entries;
    const std::size_t count = max == 0 ? kMaxShards : std::clamp<std::size_t>(max / kMinEntriesInShard, 1, kMaxShards);
    for (std::size_t i = 0; i < count; ++i) {
      shards_.push_back(std::make_unique<Shard>(max / count + (i < max % count ? 1 : 0)));
    }
  }

  std::optional<Entry> find(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    const Kept* kept = in.map.find(KeyView{scope, digest});
    if (kept == nullptr || clock_.now() >= kept->until) return std::nullopt;
    return kept->entry;
  }

  // A time that is past where nothing is kept.
  Clock::Monotonic kept_until(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    const Kept* kept = in.map.find(KeyView{scope, digest});
    return kept == nullptr ? Clock::Monotonic::min() : kept->until;
  }

  // Before the provider is asked: what it answers is kept only if nothing was cleared since.
  std::uint64_t clears(const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    return in.clears;
  }

  void keep(std::string_view scope, const oci::Digest& digest, Entry entry, std::uint64_t clears) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    if (in.clears != clears) return;
    in.map.insert(Key{std::string(scope), digest}, Kept{std::move(entry), clock_.now() + ttl_});
  }

  void clear(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    ++in.clears;
    in.map.erase(KeyView{scope, digest});
  }

  void drop(std::string_view scope, const oci::Digest& digest) {
    Shard& in = shard(digest);
    const std::scoped_lock lock(in.mutex);
    in.map.erase(KeyView{scope, digest});
  }

  void clear_all() {
    for (const auto& shard : shards_) {
      const std::scoped_lock lock(shard->mutex);
      ++shard->clears;
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
  struct Kept {
    Entry entry;
    Clock::Monotonic until{};
  };
  struct alignas(64) Shard {
    explicit Shard(std::size_t capacity) : map(capacity) {}
    std::mutex mutex;  // guards what follows
    SieveMap<Key, Kept, KeyHash, KeyEqual> map;
    std::uint64_t clears = 0;
  };

  Shard& shard(const oci::Digest& digest) {
    return *shards_[std::to_integer<std::size_t>(digest.raw().back()) % shards_.size()];
  }

  const std::chrono::milliseconds ttl_;
  const Clock& clock_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

class BriefDescriptorCache::Scoped final : public BlobDescriptorService {
 public:
  Scoped(std::shared_ptr<Table> table, Scope scope, std::shared_ptr<BlobDescriptorService> behind)
      : table_(std::move(table)), scope_(std::move(scope)), behind_(std::move(behind)) {}

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override {
    if (std::optional<Entry> found = table_->find(scope_.str(), digest)) co_return std::move(*found);
    const std::uint64_t clears = table_->clears(digest);
    Result<Entry> found = co_await behind_->stat(digest);
    if (found) {
      table_->keep(scope_.str(), digest, *found, clears);
    } else if (found.error().code == Errc::blob_unknown) {
      table_->drop(scope_.str(), digest);
    }
    co_return found;
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override {
    if (Result<void> valid = oci::validate(entry); !valid) co_return valid;
    table_->keep(scope_.str(), digest, entry, table_->clears(digest));
    co_return co_await behind_->set_descriptor(digest, std::move(entry));
  }
  runtime::Task<Result<void>> set_second_hand(oci::Digest digest, Entry entry) override {
    if (Result<void> valid = oci::validate(entry); !valid) co_return valid;
    table_->keep(scope_.str(), digest, entry, table_->clears(digest));
    co_return co_await behind_->set_second_hand(digest, std::move(entry));
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override {
    table_->clear(scope_.str(), digest);
    Result<void> cleared = co_await behind_->clear(digest);
    // An answer from before it was cleared there may have come in between.
    table_->clear(scope_.str(), digest);
    co_return cleared;
  }

 private:
  const std::shared_ptr<Table> table_;
  const Scope scope_;
  const std::shared_ptr<BlobDescriptorService> behind_;
};

BriefDescriptorCache::BriefDescriptorCache(const Params& params, std::unique_ptr<BlobDescriptorCacheProvider> provider,
                                           const Clock& clock)
    : provider_(std::move(provider)), table_(std::make_shared<Table>(params, clock)) {}

BriefDescriptorCache::~BriefDescriptorCache() = default;

Result<std::shared_ptr<BlobDescriptorService>> BriefDescriptorCache::repository_scoped(std::string_view repository) {
  Result<Scope> scope = Scope::repository(repository);
  if (!scope) return scope.error();
  Result<std::shared_ptr<BlobDescriptorService>> behind = provider_->repository_scoped(repository);
  if (!behind) return behind;
  return std::shared_ptr<BlobDescriptorService>(
      std::make_shared<Scoped>(table_, std::move(*scope), std::move(*behind)));
}

void BriefDescriptorCache::forget_all() {
  table_->clear_all();
  provider_->forget_all();
}

std::optional<Entry> BriefDescriptorCache::peek(const Scope& scope, const oci::Digest& digest) {
  if (scope.is_global()) return std::nullopt;
  return table_->find(scope.str(), digest);
}

Clock::Monotonic BriefDescriptorCache::peek_holds_until(const Scope& scope, const oci::Digest& digest) {
  return table_->kept_until(scope.str(), digest);
}

std::size_t BriefDescriptorCache::entries() const { return table_->entries(); }

}  // namespace sluice::descriptors

#include "store/blob_index.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <span>
#include <utility>

#include "store/eviction_policy.hpp"

namespace sluice::store {
namespace {

using Id = std::uint32_t;
constexpr Id kNone = 0xffffffff;

// A blob, or a free place. Of a digest longer than sha256 the rest stands in Shard::tails.
struct Node {
  std::array<std::byte, 32> head;
  std::uint64_t size : 48;
  std::uint64_t origins : 16;
  std::uint32_t last_used;
  Id older;  // links of the order, guarded by its mutex
  Id newer;  // or the next free place, where it is free
  MediaTypes::Id media_type;
  oci::Algorithm algorithm;
  std::uint8_t lives;
};
static_assert(sizeof(Node) == 56);
constexpr std::uint64_t kMaxSize = (std::uint64_t{1} << 48) - 1;  // no file system holds a larger file

// Places that never move, so that the set beside them needs no more than numbers.
class Nodes {
 public:
  [[nodiscard]] Node& operator[](Id id) const noexcept { return blocks_[id / kBlock][id % kBlock]; }

  Id take() {
    if (free_ != kNone) return std::exchange(free_, (*this)[free_].newer);
    if (used_ == blocks_.size() * kBlock) blocks_.push_back(std::make_unique<Node[]>(kBlock));
    return used_++;
  }
  void give_back(Id id) noexcept {
    (*this)[id].newer = std::exchange(free_, id);
    (*this)[id].lives = kFree;
  }
  // The hand counts lives down without the shard's lock.
  [[nodiscard]] bool is_free(Id id) const noexcept {
    return std::atomic_ref((*this)[id].lives).load(std::memory_order_relaxed) == kFree;
  }
  // Those from 0 up to here are taken, or were.
  [[nodiscard]] Id used() const noexcept { return used_; }

 private:
  static constexpr std::uint8_t kFree = 0xff;  // more lives than anybody has
  static constexpr std::size_t kBlock = 256;
  std::vector<std::unique_ptr<Node[]>> blocks_;
  Id used_ = 0;
  Id free_ = kNone;
};

using Tails = boost::unordered_flat_map<Id, std::array<std::byte, 32>>;

// The hand takes no more steps than this under one lock.
constexpr int kStepsInATurn = 512;
// Nor are more entries than this looked through.
constexpr Id kEntriesInATurn = 4096;

}  // namespace

class alignas(64) BlobIndex::Shard {
 public:
  [[nodiscard]] Id find(const oci::Digest& digest) const {
    const auto at = ids_.find(digest);
    return at == ids_.end() ? kNone : *at;
  }
  [[nodiscard]] Node& operator[](Id id) const noexcept { return nodes_[id]; }
  [[nodiscard]] oci::Digest digest_of(Id id) const {
    std::array<std::byte, oci::kMaxDigestBytes> raw{};
    const Node& node = nodes_[id];
    std::memcpy(raw.data(), node.head.data(), node.head.size());
    if (node.algorithm != oci::Algorithm::sha256) std::memcpy(raw.data() + 32, tails_.at(id).data(), 32);
    return oci::Digest::from_raw(node.algorithm, std::span(raw.data(), oci::digest_bytes(node.algorithm)));
  }
  [[nodiscard]] Victim victim(Id id) const { return {digest_of(id), entry(id)}; }
  [[nodiscard]] IndexEntry entry(Id id) const {
    const Node& node = nodes_[id];
    return {node.size, node.last_used, node.media_type, static_cast<OriginSets::Id>(node.origins)};
  }

  Id insert(const oci::Digest& digest, const IndexEntry& entry) {
    const Id id = nodes_.take();
    Node& node = nodes_[id];
    node = Node{};
    std::memcpy(node.head.data(), digest.raw().data(), node.head.size());
    node.algorithm = digest.algorithm();
    if (digest.algorithm() != oci::Algorithm::sha256) {
      std::memcpy(tails_[id].data(), digest.raw().data() + 32, digest.raw().size() - 32);
    }
    assign(id, entry);
    node.lives = lives_when_new(entry.size);
    ids_.insert(id);
    return id;
  }
  void assign(Id id, const IndexEntry& entry) noexcept {
    Node& node = nodes_[id];
    node.size = entry.size & kMaxSize;
    node.last_used = entry.last_used;
    node.media_type = entry.media_type;
    node.origins = entry.origins;
  }
  void erase(Id id) {
    ids_.erase(id);
    tails_.erase(id);
    nodes_.give_back(id);
  }

  template <class F>
  void for_each(F visit) const {
    for (const Id id : ids_) {
      if (!visit(id)) return;
    }
  }
  // In the order of their places, from `from` on; where to go on, or kNone.
  template <class F>
  Id for_some(Id from, Id count, F visit) const {
    const Id end = std::min(nodes_.used(), from + count);
    for (Id id = from; id < end; ++id) {
      if (!nodes_.is_free(id)) visit(id);
    }
    return end < nodes_.used() ? end : kNone;
  }
  void reserve(std::size_t count) { ids_.reserve(count); }
  void clear() {
    ids_.clear();
    tails_.clear();
    nodes_ = Nodes{};
  }

  mutable std::mutex mutex;  // guards the whole shard, but for the links; lives change also without it

 private:
  struct Hash {
    using is_transparent = void;
    using is_avalanching = void;
    const Shard* in;
    std::size_t operator()(const oci::Digest& digest) const noexcept { return hash_value(digest); }
    std::size_t operator()(Id id) const { return hash_value(in->digest_of(id)); }
  };
  struct Equal {
    using is_transparent = void;
    const Shard* in;
    bool operator()(Id a, Id b) const noexcept { return a == b; }
    bool operator()(Id id, const oci::Digest& digest) const noexcept {
      const Node& node = (*in).nodes_[id];
      if (node.algorithm != digest.algorithm() || std::memcmp(node.head.data(), digest.raw().data(), 32) != 0) {
        return false;
      }
      const std::size_t rest = digest.raw().size() - 32;
      return rest == 0 || std::memcmp(in->tails_.at(id).data(), digest.raw().data() + 32, rest) == 0;
    }
    bool operator()(const oci::Digest& digest, Id id) const noexcept { return (*this)(id, digest); }
  };

  Nodes nodes_;
  Tails tails_;
  boost::unordered_flat_set<Id, Hash, Equal> ids_{0, Hash{this}, Equal{this}};
};

BlobIndex::Shard* BlobIndex::make_shards() { return new Shard[kShards]; }
void BlobIndex::ShardDeleter::operator()(Shard* shards) const noexcept { delete[] shards; }

BlobIndex::Shard& BlobIndex::shard(const oci::Digest& digest) const noexcept {
  return shards_.get()[std::to_integer<std::size_t>(digest.raw()[31]) % kShards];
}

namespace {
std::atomic_ref<std::uint8_t> lives(Node& node) noexcept { return std::atomic_ref(node.lives); }
}  // namespace

BlobIndex::Link BlobIndex::link_to(const Shard& in, std::uint32_t id) const noexcept {
  return id * kShards + static_cast<Link>(&in - shards_.get());
}

// The order goes across the shards: a link holds the shard in its lower bits. All of these under order_mutex_. Nodes
// are made under it too, so that those of other shards can be reached without their locks.

BlobIndex::Shard& BlobIndex::shard_of(Link link) const noexcept { return shards_.get()[link % kShards]; }

void BlobIndex::link_newest(Link link) noexcept {
  Node& node = shard_of(link)[link / kShards];
  node.older = newest_;
  node.newer = kNone;
  (newest_ != kNone ? shard_of(newest_)[newest_ / kShards].newer : oldest_) = link;
  newest_ = link;
}

void BlobIndex::unlink(Link link) noexcept {
  const Node& node = shard_of(link)[link / kShards];
  (node.older != kNone ? shard_of(node.older)[node.older / kShards].newer : oldest_) = node.newer;
  (node.newer != kNone ? shard_of(node.newer)[node.newer / kShards].older : newest_) = node.older;
  if (hand_ == link) hand_ = node.newer;
}

void BlobIndex::reserve(std::size_t entries) {
  for (Shard& in : std::span(shards_.get(), kShards)) {
    const std::scoped_lock lock(in.mutex);
    in.reserve(entries / kShards + 1);
  }
}

void BlobIndex::clear() {
  const std::scoped_lock order(order_mutex_);
  oldest_ = newest_ = hand_ = kNone;
  for (Shard& in : std::span(shards_.get(), kShards)) {
    const std::scoped_lock lock(in.mutex);
    in.clear();
  }
  bytes_ = 0;
  entries_ = 0;
  versions_.all_changed();
}

std::optional<IndexEntry> BlobIndex::find(const oci::Digest& digest) const {
  const Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const Id found = in.find(digest);
  if (found == kNone) return std::nullopt;
  return in.entry(found);
}

std::optional<IndexEntry> BlobIndex::set(const oci::Digest& digest, const IndexEntry& entry) {
  const std::scoped_lock order(order_mutex_);
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const Id found = in.find(digest);
  if (found == kNone) {
    link_newest(link_to(in, in.insert(digest, entry)));
    entries_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(entry.size, std::memory_order_relaxed);
    return std::nullopt;
  }
  const IndexEntry was = in.entry(found);
  bytes_.fetch_add(entry.size - was.size, std::memory_order_relaxed);  // modulo 2^64, so less is right too
  in.assign(found, entry);
  versions_.changed(hash_value(digest));
  return was;
}

bool BlobIndex::add(const oci::Digest& digest, const IndexEntry& entry) {
  const std::scoped_lock order(order_mutex_);
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  if (in.find(digest) != kNone) return false;
  link_newest(link_to(in, in.insert(digest, entry)));
  entries_.fetch_add(1, std::memory_order_relaxed);
  bytes_.fetch_add(entry.size, std::memory_order_relaxed);
  return true;
}

std::optional<IndexEntry> BlobIndex::erase(const oci::Digest& digest) {
  const std::scoped_lock order(order_mutex_);
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const Id found = in.find(digest);
  if (found == kNone) return std::nullopt;
  const IndexEntry was = in.entry(found);
  unlink(link_to(in, found));
  in.erase(found);
  versions_.changed(hash_value(digest));
  entries_.fetch_sub(1, std::memory_order_relaxed);
  bytes_.fetch_sub(was.size, std::memory_order_relaxed);
  return was;
}

bool BlobIndex::touch(const oci::Digest& digest, std::uint32_t now, std::uint32_t granularity) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  const Id found = in.find(digest);
  if (found == kNone) return false;
  Node& node = in[found];
  lives(node).store(lives_when_used(node.size), std::memory_order_relaxed);
  if (now < node.last_used || now - node.last_used < granularity) return false;
  node.last_used = now;
  return true;
}

std::optional<BlobIndex::Victim> BlobIndex::pick() {
  for (;;) {
    const std::scoped_lock order(order_mutex_);
    for (int step = 0; step < kStepsInATurn; ++step) {
      if (hand_ == kNone) hand_ = oldest_;
      if (hand_ == kNone) return std::nullopt;
      Shard& in = shard_of(hand_);
      Node& node = in[hand_ / kShards];
      const std::uint8_t left = lives(node).load(std::memory_order_relaxed);
      if (left == 0) {
        const std::scoped_lock lock(in.mutex);
        return in.victim(hand_ / kShards);
      }
      // A use in between is lost, which costs that blob no more than a place in the queue.
      lives(node).store(static_cast<std::uint8_t>(left - 1), std::memory_order_relaxed);
      hand_ = node.newer;
    }
  }
}

void BlobIndex::spare(const oci::Digest& digest) {
  Shard& in = shard(digest);
  const std::scoped_lock lock(in.mutex);
  if (const Id found = in.find(digest); found != kNone)
    lives(in[found]).store(lives_when_used(in[found].size), std::memory_order_relaxed);
}

std::vector<BlobIndex::Victim> BlobIndex::idle_since(std::uint32_t before, std::size_t limit) const {
  std::vector<Victim> out;
  for (const Shard& in : std::span(shards_.get(), kShards)) {
    const std::scoped_lock lock(in.mutex);
    in.for_each([&](Id id) {
      if (in[id].last_used < before) out.push_back(in.victim(id));
      return out.size() < limit;
    });
    if (out.size() >= limit) break;
  }
  return out;
}

template <class F>
void BlobIndex::for_each_place(F visit) const {
  for (const Shard& in : std::span(shards_.get(), kShards)) {
    for (Id next = 0; next != kNone;) {
      const std::scoped_lock lock(in.mutex);
      next = in.for_some(next, kEntriesInATurn, [&](Id id) { visit(in, id); });
    }
  }
}

bool BlobIndex::before(const oci::Digest& a, const oci::Digest& b) noexcept {
  return std::ranges::lexicographical_compare(a.raw(), b.raw());
}

std::vector<BlobIndex::Blob> BlobIndex::between(std::uint8_t first, std::uint8_t last) const {
  std::vector<Blob> out;
  for_each_place([&](const Shard& in, Id id) {
    const auto begins = std::to_integer<std::uint8_t>(in[id].head.front());
    if (begins >= first && begins <= last) out.push_back(in.victim(id));
  });
  std::sort(out.begin(), out.end(), [](const Blob& a, const Blob& b) { return before(a.digest, b.digest); });
  return out;
}

void BlobIndex::for_each(const std::function<void(const Blob&)>& visit) const {
  for_each_place([&](const Shard& in, Id id) { visit(in.victim(id)); });
}

void BlobIndex::order_by_last_use() {
  const std::scoped_lock order(order_mutex_);
  std::vector<std::pair<std::uint32_t, Link>> links;
  links.reserve(entries());
  for (Shard& in : std::span(shards_.get(), kShards)) {
    const std::scoped_lock lock(in.mutex);
    in.for_each([&](Id id) {
      links.emplace_back(in[id].last_used, link_to(in, id));
      return true;
    });
  }
  std::sort(links.begin(), links.end());
  oldest_ = newest_ = hand_ = kNone;
  for (const auto& [last_used, link] : links) link_newest(link);
}

}  // namespace sluice::store

// SieveMap: a hash map that holds at most so many entries and evicts by SIEVE (Zhang et al., "SIEVE is Simpler than
// LRU", NSDI 2024): entries stand in the order of insertion, a hit sets one bit, and a hand that walks from the oldest
// to the newest evicts the first entry whose bit is not set, clearing bits on its way. A hit moves nothing, so it costs
// no more than the look-up.
//
// Not thread-safe: its owner locks. Neither copies nor moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_set.hpp>

namespace sluice::descriptors {

// `Hash` and `Equal` are called with Key and with every type that find and take are given.
template <class Key, class Value, class Hash, class Equal>
class SieveMap {
 public:
  // `capacity` of 0 is unlimited.
  explicit SieveMap(std::size_t capacity) : capacity_(capacity), index_(0, SlotHash{this}, SlotEqual{this}) {}
  SieveMap(const SieveMap&) = delete;
  SieveMap& operator=(const SieveMap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }

  // The value, marked as used; null when it is not there. Valid until the next insert or erase.
  template <class K>
  Value* find(const K& key) {
    const auto it = index_.find(Probe<K>{key});
    if (it == index_.end()) return nullptr;
    Slot& slot = slots_[*it];
    slot.visited = true;
    return &slot.value;
  }

  // Whether it is there; marks nothing.
  template <class K>
  [[nodiscard]] bool contains(const K& key) const {
    return index_.find(Probe<K>{key}) != index_.end();
  }

  // Replaces the value where the key is there (and counts as a use of it), else inserts and evicts another. Returns the
  // value that had to go, or an empty one: the caller destroys it when he has given up his lock.
  Value insert_or_assign(Key key, Value value) {
    if (Value* found = find(key)) return std::exchange(*found, std::move(value));
    Value evicted{};
    if (capacity_ != 0 && size() >= capacity_) evicted = evict();
    const std::uint32_t at = allocate(std::move(key), std::move(value));
    link_newest(at);
    index_.insert(at);
    return evicted;
  }

  // What was there, or an empty value.
  template <class K>
  Value take(const K& key) {
    const auto it = index_.find(Probe<K>{key});
    if (it == index_.end()) return Value{};
    const std::uint32_t at = *it;
    index_.erase(it);
    return release(at);
  }

  void clear() {
    index_.clear();
    slots_.clear();
    free_.clear();
    oldest_ = newest_ = hand_ = kNone;
  }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  struct Slot {
    Key key;
    Value value;
    std::uint32_t older = kNone;
    std::uint32_t newer = kNone;
    bool visited = false;
  };
  // Tells a key to look for from an index of a slot, whatever its type.
  template <class K>
  struct Probe {
    const K& key;
  };
  struct SlotHash {
    using is_transparent = void;
    using is_avalanching = void;
    const SieveMap* map;
    std::size_t operator()(std::uint32_t at) const { return Hash{}(map->slots_[at].key); }
    template <class K>
    std::size_t operator()(const Probe<K>& probe) const {
      return Hash{}(probe.key);
    }
  };
  struct SlotEqual {
    using is_transparent = void;
    const SieveMap* map;
    bool operator()(std::uint32_t a, std::uint32_t b) const { return a == b; }
    template <class K>
    bool operator()(const Probe<K>& probe, std::uint32_t at) const {
      return Equal{}(map->slots_[at].key, probe.key);
    }
    template <class K>
    bool operator()(std::uint32_t at, const Probe<K>& probe) const {
      return Equal{}(map->slots_[at].key, probe.key);
    }
  };

  std::uint32_t allocate(Key key, Value value) {
    if (!free_.empty()) {
      const std::uint32_t at = free_.back();
      free_.pop_back();
      slots_[at].key = std::move(key);
      slots_[at].value = std::move(value);
      slots_[at].visited = false;
      return at;
    }
    slots_.push_back(Slot{std::move(key), std::move(value)});
    return static_cast<std::uint32_t>(slots_.size() - 1);
  }

  void link_newest(std::uint32_t at) {
    slots_[at].older = newest_;
    slots_[at].newer = kNone;
    if (newest_ != kNone) slots_[newest_].newer = at;
    newest_ = at;
    if (oldest_ == kNone) oldest_ = at;
  }

  // Takes a slot, no longer in the index, out of the order, empties it and returns what was in it.
  Value release(std::uint32_t at) {
    Slot& slot = slots_[at];
    if (hand_ == at) hand_ = slot.newer;
    (slot.older != kNone ? slots_[slot.older].newer : oldest_) = slot.newer;
    (slot.newer != kNone ? slots_[slot.newer].older : newest_) = slot.older;
    slot.key = Key{};
    free_.push_back(at);
    return std::exchange(slot.value, Value{});
  }

  Value evict() {
    std::uint32_t at = hand_ == kNone ? oldest_ : hand_;
    while (slots_[at].visited) {
      slots_[at].visited = false;
      at = slots_[at].newer == kNone ? oldest_ : slots_[at].newer;
    }
    hand_ = at;
    index_.erase(index_.find(Probe<Key>{slots_[at].key}));
    return release(at);
  }

  const std::size_t capacity_;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  boost::unordered_flat_set<std::uint32_t, SlotHash, SlotEqual> index_;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::uint32_t hand_ = kNone;  // where the next eviction starts; none is the oldest
};

}  // namespace sluice::descriptors

// SieveMap: a bounded hash map that evicts by SIEVE (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024): entries
// stand in the order of insertion, a hit sets one bit, and a hand that walks from the oldest to the newest evicts the
// first entry whose bit is not set, clearing bits on its way. A hit moves nothing, so it costs no more than the
// look-up.
//
// The bound is a sum of costs in any unit (entries, bytes), which whoever inserts tells.
//
// Not thread-safe: its owner locks. Neither copies nor moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_set.hpp>

namespace sluice {

// `Hash` and `Equal` are called with Key and with every type that find, contains, take and erase are given.
template <class Key, class Value, class Hash = std::hash<Key>, class Equal = std::equal_to<>>
class SieveMap {
 public:
  // `capacity` in the unit of the costs; 0 is unlimited.
  explicit SieveMap(std::uint64_t capacity) : capacity_(capacity), index_(0, SlotHash{this}, SlotEqual{this}) {}
  SieveMap(const SieveMap&) = delete;
  SieveMap& operator=(const SieveMap&) = delete;

  [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }

  // The value, marked as used; null when it is not there. Valid until the next insert or removal.
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

  // Inserts, or replaces, which counts as a use. What costs more than the whole capacity is not kept, and what stood
  // under its key is gone all the same: it would be wrong. Returns the values that had to go, nearly always none or
  // one: the caller destroys them when he has given up his lock.
  std::vector<Value> insert(Key key, Value value, std::uint64_t cost = 1) {
    std::vector<Value> gone;
    bool visited = false;
    if (const auto it = index_.find(Probe<Key>{key}); it != index_.end()) {
      Slot& slot = slots_[*it];
      if (slot.cost == cost) {
        slot.visited = true;
        gone.push_back(std::exchange(slot.value, std::move(value)));
        return gone;
      }
      visited = true;
      gone.push_back(remove(it));
    }
    if (capacity_ != 0 && cost > capacity_) {
      gone.push_back(std::move(value));
      return gone;
    }
    while (capacity_ != 0 && used_ + cost > capacity_) gone.push_back(evict());
    const std::uint32_t at = allocate(std::move(key), std::move(value), cost, visited);
    link_newest(at);
    index_.insert(at);
    used_ += cost;
    return gone;
  }

  // What was there, or an empty value.
  template <class K>
  Value take(const K& key) {
    const auto it = index_.find(Probe<K>{key});
    return it == index_.end() ? Value{} : remove(it);
  }

  // Whether it was there. The value is destroyed here.
  template <class K>
  bool erase(const K& key) {
    const auto it = index_.find(Probe<K>{key});
    if (it == index_.end()) return false;
    static_cast<void>(remove(it));
    return true;
  }

  void clear() {
    index_.clear();
    slots_.clear();
    free_.clear();
    used_ = 0;
    oldest_ = newest_ = hand_ = kNone;
  }

 private:
  static constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();

  struct Slot {
    Key key;
    Value value;
    std::uint64_t cost = 0;
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
  using Index = boost::unordered_flat_set<std::uint32_t, SlotHash, SlotEqual>;

  std::uint32_t allocate(Key key, Value value, std::uint64_t cost, bool visited) {
    if (free_.empty()) {
      slots_.push_back(Slot{std::move(key), std::move(value), cost, kNone, kNone, visited});
      return static_cast<std::uint32_t>(slots_.size() - 1);
    }
    const std::uint32_t at = free_.back();
    free_.pop_back();
    Slot& slot = slots_[at];
    slot.key = std::move(key);
    slot.value = std::move(value);
    slot.cost = cost;
    slot.visited = visited;
    return at;
  }

  void link_newest(std::uint32_t at) {
    slots_[at].older = newest_;
    slots_[at].newer = kNone;
    if (newest_ != kNone) slots_[newest_].newer = at;
    newest_ = at;
    if (oldest_ == kNone) oldest_ = at;
  }

  Value remove(typename Index::iterator it) {
    const std::uint32_t at = *it;
    index_.erase(it);
    Slot& slot = slots_[at];
    if (hand_ == at) hand_ = slot.newer;
    (slot.older != kNone ? slots_[slot.older].newer : oldest_) = slot.newer;
    (slot.newer != kNone ? slots_[slot.newer].older : newest_) = slot.older;
    used_ -= slot.cost;
    slot.key = Key{};
    free_.push_back(at);
    return std::exchange(slot.value, Value{});
  }

  // Precondition: not empty, which holds while used_ > 0.
  Value evict() {
    std::uint32_t at = hand_ == kNone ? oldest_ : hand_;
    while (slots_[at].visited) {
      slots_[at].visited = false;
      at = slots_[at].newer == kNone ? oldest_ : slots_[at].newer;
    }
    hand_ = at;
    return remove(index_.find(Probe<Key>{slots_[at].key}));
  }

  const std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  std::vector<Slot> slots_;
  std::vector<std::uint32_t> free_;
  Index index_;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::uint32_t hand_ = kNone;  // where the next eviction starts; none is the oldest
};

}  // namespace sluice

// A bounded map that evicts by SIEVE (Zhang et al., NSDI 2024): a hit sets a bit and moves nothing; a hand walks from
// the oldest entry to the newest, clears the bits it meets and evicts the first entry without one.
//
// Not thread-safe: the owner locks. A value type's cost is given by whoever inserts it, in any unit (entries, bytes).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <utility>

#include <boost/unordered/unordered_flat_map.hpp>

namespace sluice {

template <class Key, class Value, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class SieveMap {
 public:
  // `capacity` in the unit of the costs; 0 means unbounded.
  explicit SieveMap(std::uint64_t capacity) : capacity_(capacity), hand_(entries_.end()) {}

  // The value, marked as used; null when it is not there. Valid until the next insert or erase.
  template <class K>
  Value* find(const K& key) {
    const auto at = index_.find(key);
    if (at == index_.end()) return nullptr;
    at->second->visited = true;
    return &at->second->value;
  }

  // Inserts or replaces. What costs more than the whole capacity is not kept.
  void insert(Key key, Value value, std::uint64_t cost = 1) {
    erase(key);
    if (capacity_ != 0 && cost > capacity_) return;
    while (capacity_ != 0 && used_ + cost > capacity_) evict();
    entries_.push_front(Entry{key, std::move(value), cost, false});
    index_.emplace(std::move(key), entries_.begin());
    used_ += cost;
  }

  template <class K>
  bool erase(const K& key) {
    const auto at = index_.find(key);
    if (at == index_.end()) return false;
    drop(at->second);
    return true;
  }

  void clear() {
    index_.clear();
    entries_.clear();
    hand_ = entries_.end();
    used_ = 0;
  }

  [[nodiscard]] std::size_t size() const noexcept { return index_.size(); }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }

 private:
  struct Entry {
    Key key;
    Value value;
    std::uint64_t cost;
    bool visited;
  };
  using Position = typename std::list<Entry>::iterator;

  // Precondition: not empty, which holds while used_ > 0.
  void evict() {
    // The newest entry is at the front; from the back to the front is from old to new.
    if (hand_ == entries_.end()) hand_ = std::prev(entries_.end());
    while (hand_->visited) {
      hand_->visited = false;
      hand_ = hand_ == entries_.begin() ? std::prev(entries_.end()) : std::prev(hand_);
    }
    drop(hand_);
  }

  void drop(Position at) {
    if (hand_ == at) hand_ = at == entries_.begin() ? entries_.end() : std::prev(at);
    used_ -= at->cost;
    index_.erase(at->key);
    entries_.erase(at);
  }

  const std::uint64_t capacity_;
  std::uint64_t used_ = 0;
  std::list<Entry> entries_;
  boost::unordered_flat_map<Key, Position, Hash, Equal> index_;
  Position hand_;
};

}  // namespace sluice

// Eviction policies over objects of different sizes, for the simulation: what they keep, and nothing else. Plain and
// single-threaded; the store's own index is one of them.
#pragma once

#include <cstdint>
#include <cstring>
#include <deque>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "store/blob_index.hpp"

namespace sluice::bench {

using Object = std::uint32_t;

class Policy {
 public:
  explicit Policy(std::uint64_t capacity) : capacity_(capacity) {}
  Policy(const Policy&) = delete;
  Policy& operator=(const Policy&) = delete;
  virtual ~Policy() = default;
  // Whether it was there; it is afterwards, unless it is larger than everything.
  virtual bool access(Object object, std::uint64_t size) = 0;
  [[nodiscard]] virtual std::uint64_t used() const { return used_; }

 protected:
  const std::uint64_t capacity_;
  std::uint64_t used_ = 0;
};

class Lru final : public Policy {
 public:
  using Policy::Policy;
  bool access(Object object, std::uint64_t size) override {
    if (const auto at = index_.find(object); at != index_.end()) {
      order_.splice(order_.begin(), order_, at->second);
      return true;
    }
    if (size > capacity_) return false;
    while (used_ + size > capacity_) {
      used_ -= order_.back().second;
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(object, size);
    index_[object] = order_.begin();
    used_ += size;
    return false;
  }

 private:
  std::list<std::pair<Object, std::uint64_t>> order_;
  std::unordered_map<Object, std::list<std::pair<Object, std::uint64_t>>::iterator> index_;
};

// Zhang et al., NSDI 2024.
class Sieve final : public Policy {
 public:
  using Policy::Policy;
  bool access(Object object, std::uint64_t size) override {
    if (const auto at = index_.find(object); at != index_.end()) {
      at->second->visited = true;
      return true;
    }
    if (size > capacity_) return false;
    while (used_ + size > capacity_) evict();
    order_.push_front({object, size, false});
    index_[object] = order_.begin();
    used_ += size;
    return false;
  }

 private:
  struct Entry {
    Object object;
    std::uint64_t size;
    bool visited;
  };
  void evict() {
    auto at = hand_ == order_.end() ? std::prev(order_.end()) : hand_;
    while (at->visited) {
      at->visited = false;
      at = at == order_.begin() ? std::prev(order_.end()) : std::prev(at);
    }
    hand_ = at == order_.begin() ? order_.end() : std::prev(at);
    used_ -= at->size;
    index_.erase(at->object);
    order_.erase(at);
  }
  std::list<Entry> order_;
  std::list<Entry>::iterator hand_ = order_.end();
  std::unordered_map<Object, std::list<Entry>::iterator> index_;
};

// Yang et al., SOSP 2023: a small queue of a tenth, a main one, and a ghost queue of as many bytes as the main one.
class S3Fifo final : public Policy {
 public:
  using Policy::Policy;
  bool access(Object object, std::uint64_t size) override {
    Entry& entry = entries_[object];
    if (entry.where == Where::small || entry.where == Where::main) {
      if (entry.uses < 3) ++entry.uses;
      return true;
    }
    if (size > capacity_) return false;
    const bool known = entry.where == Where::ghost;
    while (used_ + size > capacity_) evict();
    if (known) ghost_used_ -= entry.size;
    entry = {size, known ? Where::main : Where::small, 0};
    (known ? main_ : small_).push_front(object);
    if (!known) small_used_ += size;
    used_ += size;
    return false;
  }

 private:
  enum class Where : std::uint8_t { nowhere, small, main, ghost };
  struct Entry {
    std::uint64_t size = 0;
    Where where = Where::nowhere;
    int uses = 0;
  };
  void evict() {
    if (!small_.empty() && (small_used_ > capacity_ / 10 || main_.empty())) {
      const Object object = small_.back();
      small_.pop_back();
      Entry& entry = entries_[object];
      small_used_ -= entry.size;
      if (entry.uses > 1) {
        entry.where = Where::main;
        entry.uses = 0;
        main_.push_front(object);
        return;
      }
      used_ -= entry.size;
      entry.where = Where::ghost;
      ghosts_.push_front(object);
      ghost_used_ += entry.size;
      while (ghost_used_ > capacity_ / 10 * 9 && !ghosts_.empty()) {
        // One that has come back since is no ghost any more.
        Entry& ghost = entries_[ghosts_.back()];
        if (ghost.where == Where::ghost) {
          ghost_used_ -= ghost.size;
          ghost.where = Where::nowhere;
        }
        ghosts_.pop_back();
      }
      return;
    }
    const Object object = main_.back();
    main_.pop_back();
    Entry& entry = entries_[object];
    if (entry.uses > 0) {
      --entry.uses;
      main_.push_front(object);
      return;
    }
    used_ -= entry.size;
    entry.where = Where::nowhere;
  }
  std::unordered_map<Object, Entry> entries_;
  std::deque<Object> small_, main_, ghosts_;
  std::uint64_t small_used_ = 0, ghost_used_ = 0;
};

// Cherkasova 1998: inflation + uses / size; the lowest goes.
class Gdsf final : public Policy {
 public:
  using Policy::Policy;
  bool access(Object object, std::uint64_t size) override {
    if (const auto at = entries_.find(object); at != entries_.end()) {
      order_.erase({at->second.priority, object});
      ++at->second.uses;
      at->second.priority = inflation_ + at->second.uses / static_cast<double>(at->second.size);
      order_.insert({at->second.priority, object});
      return true;
    }
    if (size > capacity_) return false;
    while (used_ + size > capacity_) {
      const auto [priority, victim] = *order_.begin();
      inflation_ = priority;
      used_ -= entries_[victim].size;
      entries_.erase(victim);
      order_.erase(order_.begin());
    }
    const double priority = inflation_ + 1 / static_cast<double>(size);
    entries_[object] = {size, 1, priority};
    order_.insert({priority, object});
    used_ += size;
    return false;
  }

 private:
  struct Entry {
    std::uint64_t size = 0;
    double uses = 0;
    double priority = 0;
  };
  std::unordered_map<Object, Entry> entries_;
  std::set<std::pair<double, Object>> order_;
  double inflation_ = 0;
};

// The store's own index, with its shards: SIEVE with lives by size (store/eviction_policy.hpp).
class Shipped final : public Policy {
 public:
  using Policy::Policy;
  bool access(Object object, std::uint64_t size) override {
    ++now_;
    const oci::Digest digest = digest_of(object);
    if (index_.find(digest)) {
      index_.touch(digest, now_, 60);
      return true;
    }
    if (size > capacity_) return false;
    while (index_.bytes() + size > capacity_) index_.erase(index_.pick()->digest);
    index_.set(digest, {size, now_, 0});
    return false;
  }
  [[nodiscard]] std::uint64_t used() const override { return index_.bytes(); }

 private:
  static oci::Digest digest_of(Object object) {
    std::array<std::byte, 32> raw{};
    std::uint64_t state = object;
    for (std::size_t i = 0; i < raw.size(); i += 8) {
      std::uint64_t word = state += 0x9e3779b97f4a7c15;
      word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
      word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
      word ^= word >> 31;
      std::memcpy(raw.data() + i, &word, 8);
    }
    return oci::Digest::from_raw(oci::Algorithm::sha256, raw);
  }
  store::BlobIndex index_;
  std::uint32_t now_ = 0;
};

inline constexpr std::string_view kPolicies[] = {"LRU", "SIEVE", "S3-FIFO", "GDSF", "sluice"};

inline std::unique_ptr<Policy> make_policy(std::string_view name, std::uint64_t capacity) {
  if (name == "LRU") return std::make_unique<Lru>(capacity);
  if (name == "SIEVE") return std::make_unique<Sieve>(capacity);
  if (name == "S3-FIFO") return std::make_unique<S3Fifo>(capacity);
  if (name == "GDSF") return std::make_unique<Gdsf>(capacity);
  return std::make_unique<Shipped>(capacity);
}

}  // namespace sluice::bench

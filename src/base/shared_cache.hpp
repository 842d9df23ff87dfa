// SharedCache: immutable objects by key, of which there is one while anybody holds it, and which are kept beyond that
// within a bound of bytes. So what does not fit, or had to go, is still found as long as somebody uses it: clients that
// take nothing of a large answer share it, however many they are.
//
// Thread-safe; one short lock. Neither copies nor moves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "base/sieve_map.hpp"

namespace sluice {

template <class Key, class T, class Hash = std::hash<Key>>
class SharedCache {
 public:
  using Object = std::shared_ptr<const T>;

  // `capacity_bytes` of 0 keeps nothing that nobody holds.
  explicit SharedCache(std::uint64_t capacity_bytes)
      : keeps_(capacity_bytes != 0), kept_(keeps_ ? capacity_bytes : 1) {}
  SharedCache(const SharedCache&) = delete;
  SharedCache& operator=(const SharedCache&) = delete;

  [[nodiscard]] Object find(const Key& key) {
    const std::scoped_lock lock(mutex_);
    if (Object* kept = kept_.find(key)) return *kept;
    const auto at = held_.find(key);
    return at == held_.end() ? nullptr : at->second.lock();
  }

  // Replaces what was found under the key. `cost` in bytes.
  void insert(const Key& key, Object object, std::uint64_t cost) {
    std::vector<Object> gone;  // destroyed after the lock
    const std::scoped_lock lock(mutex_);
    held_.insert_or_assign(key, object);
    if (held_.size() > sweep_at_) sweep();
    if (keeps_) gone = kept_.insert(key, std::move(object), cost);
  }

  void erase(const Key& key) {
    Object gone;
    const std::scoped_lock lock(mutex_);
    held_.erase(key);
    gone = kept_.take(key);
  }

 private:
  static constexpr std::size_t kFewest = 64;

  // Drops what nobody holds any more; so seldom that an insertion costs a constant time on average.
  void sweep() {
    boost::unordered::erase_if(held_, [](const auto& entry) { return entry.second.expired(); });
    sweep_at_ = 2 * held_.size() + kFewest;
  }

  const bool keeps_;
  std::mutex mutex_;  // guards all below
  SieveMap<Key, Object, Hash> kept_;
  boost::unordered_flat_map<Key, std::weak_ptr<const T>, Hash> held_;
  std::size_t sweep_at_ = kFewest;
};

}  // namespace sluice

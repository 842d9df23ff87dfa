// Urgencies: of all downloads that run, so that whoever wants what one brings can hurry it. Thread-safe.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "upstream/urgency.hpp"

namespace sluice::pull {

class Urgencies {
 public:
  // A download is listed as long as this lives. Several may be listed under one key.
  class Listed {
   public:
    Listed(Urgencies& owner, std::string key, std::shared_ptr<upstream::Urgency> urgency);
    Listed(const Listed&) = delete;
    Listed& operator=(const Listed&) = delete;
    ~Listed();

   private:
    Urgencies& owner_;
    const std::string key_;
    const std::shared_ptr<upstream::Urgency> urgency_;
  };

  // Somebody waits for what these downloads bring.
  void raise(const std::string& key);

 private:
  std::mutex mutex_;  // guards listed_
  std::unordered_multimap<std::string, std::shared_ptr<upstream::Urgency>> listed_;
};

inline Urgencies::Listed::Listed(Urgencies& owner, std::string key, std::shared_ptr<upstream::Urgency> urgency)
    : owner_(owner), key_(std::move(key)), urgency_(std::move(urgency)) {
  const std::scoped_lock lock(owner_.mutex_);
  owner_.listed_.emplace(key_, urgency_);
}

inline Urgencies::Listed::~Listed() {
  const std::scoped_lock lock(owner_.mutex_);
  auto [at, end] = owner_.listed_.equal_range(key_);
  while (at != end) at = at->second == urgency_ ? owner_.listed_.erase(at) : std::next(at);
}

inline void Urgencies::raise(const std::string& key) {
  std::vector<std::shared_ptr<upstream::Urgency>> waiting;
  {
    const std::scoped_lock lock(mutex_);
    for (auto [at, end] = listed_.equal_range(key); at != end; ++at) waiting.push_back(at->second);
  }
  for (const auto& urgency : waiting) urgency->raise();
}

}  // namespace sluice::pull

// Urgencies: of all downloads or questions that run, so that whoever wants what one brings can hurry it. Thread-safe.
#pragma once

#include <atomic>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "upstream/urgency.hpp"

namespace sluice::upstream {

class Urgencies {
 public:
  // One is listed as long as this lives. Several may be listed under one key.
  class Listed {
   public:
    Listed(Urgencies& owner, std::string key, std::shared_ptr<Urgency> urgency);
    Listed(const Listed&) = delete;
    Listed& operator=(const Listed&) = delete;
    ~Listed();

   private:
    Urgencies& owner_;
    const std::string key_;
    const std::shared_ptr<Urgency> urgency_;
  };

  // Somebody waits for what those bring that are listed under a key, or come to be listed while this lives.
  class Wanted {
   public:
    Wanted(Urgencies& owner, std::string key);
    Wanted(const Wanted&) = delete;
    Wanted& operator=(const Wanted&) = delete;
    ~Wanted();
    // Whether there was one.
    [[nodiscard]] bool found() const noexcept { return found_; }

   private:
    friend class Urgencies;
    Urgencies& owner_;
    const std::string key_;
    std::atomic<bool> found_{false};
  };

  // Somebody waits for what these bring. Whether there is one.
  bool raise(const std::string& key);

 private:
  std::mutex mutex_;  // guards both
  std::unordered_multimap<std::string, std::shared_ptr<Urgency>> listed_;
  std::unordered_multimap<std::string, Wanted*> wanted_;
};

inline Urgencies::Listed::Listed(Urgencies& owner, std::string key, std::shared_ptr<Urgency> urgency)
    : owner_(owner), key_(std::move(key)), urgency_(std::move(urgency)) {
  bool wanted = false;
  {
    const std::scoped_lock lock(owner_.mutex_);
    owner_.listed_.emplace(key_, urgency_);
    for (auto [at, end] = owner_.wanted_.equal_range(key_); at != end; ++at) {
      at->second->found_ = true;
      wanted = true;
    }
  }
  if (wanted) urgency_->raise();
}

inline Urgencies::Listed::~Listed() {
  const std::scoped_lock lock(owner_.mutex_);
  auto [at, end] = owner_.listed_.equal_range(key_);
  while (at != end) at = at->second == urgency_ ? owner_.listed_.erase(at) : std::next(at);
}

inline Urgencies::Wanted::Wanted(Urgencies& owner, std::string key) : owner_(owner), key_(std::move(key)) {
  {
    const std::scoped_lock lock(owner_.mutex_);
    owner_.wanted_.emplace(key_, this);
  }
  if (owner_.raise(key_)) found_ = true;
}

inline Urgencies::Wanted::~Wanted() {
  const std::scoped_lock lock(owner_.mutex_);
  auto [at, end] = owner_.wanted_.equal_range(key_);
  while (at != end) at = at->second == this ? owner_.wanted_.erase(at) : std::next(at);
}

inline bool Urgencies::raise(const std::string& key) {
  std::vector<std::shared_ptr<Urgency>> waiting;
  {
    const std::scoped_lock lock(mutex_);
    for (auto [at, end] = listed_.equal_range(key); at != end; ++at) waiting.push_back(at->second);
  }
  for (const auto& urgency : waiting) urgency->raise();
  return !waiting.empty();
}

}  // namespace sluice::upstream

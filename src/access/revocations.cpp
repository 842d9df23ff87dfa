#include "access/revocations.hpp"

namespace sluice::access {

Revocations::Ticket Revocations::begin(bool is_void) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t now = epoch_.load(std::memory_order_relaxed);
  ++open_[now];
  return {*this, now, is_void};
}

void Revocations::revoke(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  const std::uint64_t now = epoch_.load(std::memory_order_relaxed) + 1;
  epoch_.store(now, std::memory_order_release);
  if (!open_.empty()) revoked_[key] = now;
}

bool Revocations::is_later(const std::string& key, std::uint64_t epoch) const {
  const auto found = revoked_.find(key);
  return found != revoked_.end() && found->second > epoch;
}

bool Revocations::removed(const Ticket& ticket, const std::string& key) const {
  if (epoch() == ticket.epoch_) return false;
  const std::scoped_lock lock(mutex_);
  return is_later(key, ticket.epoch_);
}

bool Revocations::revoked(const Ticket& ticket, const std::string& key) const {
  if (ticket.is_void_) return true;
  if (epoch() == ticket.epoch_) return false;
  const std::scoped_lock lock(mutex_);
  return is_later(key, ticket.epoch_) || is_later(key.substr(0, key.find('/') + 1), ticket.epoch_);
}

std::size_t Revocations::kept() const {
  const std::scoped_lock lock(mutex_);
  return revoked_.size();
}

void Revocations::end(std::uint64_t epoch) {
  const std::scoped_lock lock(mutex_);
  const auto at = open_.find(epoch);
  const bool was_oldest = at == open_.begin();
  if (--at->second != 0) return;
  open_.erase(at);
  if (!was_oldest || revoked_.empty()) return;
  if (open_.empty()) {
    revoked_.clear();
    return;
  }
  const std::uint64_t oldest = open_.begin()->first;
  std::erase_if(revoked_, [oldest](const auto& entry) { return entry.second <= oldest; });
}

}  // namespace sluice::access

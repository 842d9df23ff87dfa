#include "http/entry.hpp"

#include <algorithm>

namespace sluice::http {

bool ClientAccount::connect(std::size_t most) noexcept {
  const std::size_t before = connections_.fetch_add(1, std::memory_order_relaxed);
  if (most == 0 || before < most) return true;
  disconnect();
  return false;
}

std::optional<ClientAccount::Nanoseconds> ClientAccount::request(Nanoseconds now, std::size_t per_second,
                                                                 Nanoseconds patience) noexcept {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::int64_t each = kSecond / static_cast<std::int64_t>(std::max<std::size_t>(per_second, 1));
  std::int64_t until = until_.load(std::memory_order_relaxed);
  for (;;) {
    const std::int64_t next = std::max(until, static_cast<std::int64_t>(now.count())) + each;
    const std::int64_t wait = next - now.count() - kSecond;
    if (wait > patience.count()) return std::nullopt;
    if (until_.compare_exchange_weak(until, next, std::memory_order_relaxed)) {
      return Nanoseconds(std::max<std::int64_t>(wait, 0));
    }
  }
}

std::shared_ptr<ClientAccount> ClientTable::find(const IpAddress& address, ClientAccount::Nanoseconds now) {
  const IpAddress key = address.client_key();
  Shard& shard = shards_[IpAddressHash{}(key) % kShards];
  const std::scoped_lock lock(shard.mutex);
  if (const auto at = shard.clients.find(key); at != shard.clients.end()) return at->second;
  if (shard.clients.size() >= shard.sweep_at) sweep(shard, now);
  return shard.clients.emplace(key, std::make_shared<ClientAccount>()).first->second;
}

// The shard is full: those go that nobody would miss, and where that is not enough all that nobody uses. What is left
// has connections, so that the next sweep comes after as many newcomers again.
void ClientTable::sweep(Shard& shard, ClientAccount::Nanoseconds now) {
  constexpr std::size_t kFull = kMaxResting / kShards;
  const auto is_unused = [](const auto& entry) { return entry.second.use_count() == 1; };
  std::erase_if(shard.clients, [&](const auto& entry) { return is_unused(entry) && entry.second->is_idle(now); });
  if (2 * shard.clients.size() > kFull) std::erase_if(shard.clients, is_unused);
  shard.sweep_at = std::max(kFull, 2 * shard.clients.size());
}

std::size_t ClientTable::size() const {
  std::size_t out = 0;
  for (const Shard& shard : shards_) {
    const std::scoped_lock lock(shard.mutex);
    out += shard.clients.size();
  }
  return out;
}

}  // namespace sluice::http

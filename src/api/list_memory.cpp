#include "api/list_memory.hpp"

#include <chrono>

namespace sluice::api {

Result<ListMemory::Held> ListMemory::hold(const void* list, std::uint64_t bytes, const IpAddress& client) {
  constexpr std::chrono::seconds kAgainAfter{5};
  if (bytes <= params_.too_short_to_count) return Held();
  const std::scoped_lock lock(mutex_);
  if (const auto sent = sent_.find(list); sent != sent_.end()) {
    ++sent->second.readers;
    return Held(*this, list);
  }
  const auto of_client = by_client_.find(client);
  if (of_client != by_client_.end() && of_client->second + bytes > params_.of_one_client) {
    return Error{Errc::overloaded, "this client has not read the long lists that it has asked for", kAgainAfter};
  }
  if (bytes_ != 0 && bytes_ + bytes > params_.of_all) {
    return Error{Errc::overloaded, "too many long lists are being read at the same time", kAgainAfter};
  }
  sent_.emplace(list, Sent{1, bytes, client});
  by_client_[client] += bytes;
  bytes_ += bytes;
  return Held(*this, list);
}

void ListMemory::let_go(const void* list) {
  const std::scoped_lock lock(mutex_);
  const auto sent = sent_.find(list);
  if (--sent->second.readers > 0) return;
  const auto of_client = by_client_.find(sent->second.client);
  of_client->second -= sent->second.bytes;
  if (of_client->second == 0) by_client_.erase(of_client);
  bytes_ -= sent->second.bytes;
  sent_.erase(sent);
}

}  // namespace sluice::api

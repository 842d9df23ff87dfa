#include "api/list_memory.hpp"

#include <chrono>

namespace sluice::api {

Result<ListMemory::Held> ListMemory::hold(const void* list, std::uint64_t bytes, const IpAddress& client) {
  constexpr std::chrono::seconds kAgainAfter{5};
  if (bytes <= params_.too_short_to_count) return Held();
  const std::scoped_lock lock(mutex_);
  const auto at = sent_.find(list);
  const bool reads_it = at != sent_.end() && at->second.readers.contains(client);
  const auto of_client = by_client_.find(client);
  if (!reads_it && of_client != by_client_.end() && of_client->second + bytes > params_.of_one_client) {
    return Error{Errc::overloaded, "this client has not read the long lists that it has asked for", kAgainAfter};
  }
  if (at == sent_.end() && bytes_ != 0 && bytes_ + bytes > params_.of_all) {
    return Error{Errc::overloaded, "too many long lists are being read at the same time", kAgainAfter};
  }
  if (at == sent_.end()) bytes_ += bytes;
  if (!reads_it) by_client_[client] += bytes;
  Sent& sent = sent_[list];
  sent.bytes = bytes;
  ++sent.readers[client];
  return Held(*this, list, client);
}

void ListMemory::let_go(const void* list, const IpAddress& client) {
  const std::scoped_lock lock(mutex_);
  const auto sent = sent_.find(list);
  const auto reader = sent->second.readers.find(client);
  if (--reader->second > 0) return;
  sent->second.readers.erase(reader);
  const auto of_client = by_client_.find(client);
  of_client->second -= sent->second.bytes;
  if (of_client->second == 0) by_client_.erase(of_client);
  if (!sent->second.readers.empty()) return;
  bytes_ -= sent->second.bytes;
  sent_.erase(sent);
}

}  // namespace sluice::api

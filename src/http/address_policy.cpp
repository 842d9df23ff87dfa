#include "http/address_policy.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/address_kind.hpp"

namespace sluice::http {
namespace {

// Kinds of which one party's networks are as good as another's. Metadata services and link-local addresses must be
// named.
bool is_shared_by_kind(AddressKind kind) {
  switch (kind) {
    case AddressKind::loopback:
    case AddressKind::private_use:
    case AddressKind::shared:
    case AddressKind::benchmarking: return true;
    default: return false;
  }
}

std::optional<IpAddress> written_address(std::string host) {
  while (host.ends_with('.')) host.pop_back();
  if (host == "localhost" || host.ends_with(".localhost")) return IpAddress::parse("127.0.0.1");  // RFC 6761
  if (const std::optional<IpAddress> address = IpAddress::parse(host)) return address;
  in_addr old{};  // "0x7f.1", "2130706433"
  if (::inet_aton(host.c_str(), &old) == 0) return std::nullopt;
  return IpAddress::from_v4(reinterpret_cast<const std::uint8_t*>(&old));
}

}  // namespace

AddressPolicy::AddressPolicy(NetworkList named, std::shared_ptr<const OwnListeners> own_listeners)
    : named_(std::move(named)), own_listeners_(std::move(own_listeners)) {}

bool AddressPolicy::permits(const IpAddress& to, std::uint16_t port, const std::optional<IpAddress>& sender) const {
  const std::vector<IpAddress> inner = translated(to);
  const auto is_ours = [&](const IpAddress& address) { return own_listeners_->contains(address, port); };
  if (own_listeners_ && (is_ours(to) || std::any_of(inner.begin(), inner.end(), is_ours))) return false;
  const auto is_named = [this](const IpAddress& address) { return named_.contains(address); };
  if (is_named(to) || (!inner.empty() && std::all_of(inner.begin(), inner.end(), is_named))) return true;
  const AddressKind kind = kind_of(to);
  if (kind == AddressKind::global) return true;
  if (!sender) return false;
  return to == *sender || (is_shared_by_kind(kind) && kind == kind_of(*sender));
}

bool AddressPolicy::permits_host(const std::string& host, std::uint16_t port,
                                 const std::optional<IpAddress>& sender) const {
  const std::optional<IpAddress> address = written_address(host);
  return !address || permits(*address, port, sender);
}

}  // namespace sluice::http

#include "admin/guard.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

namespace sluice::admin {
namespace {

std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return out;
}

// Without the port, and without the brackets of an IPv6 address. Empty where it is neither.
std::string host_of(std::string_view authority) {
  if (authority.starts_with('[')) {
    const std::size_t end = authority.find(']');
    return end == std::string_view::npos ? std::string() : lowered(authority.substr(1, end - 1));
  }
  return lowered(authority.substr(0, authority.find(':')));
}

struct Address {
  bool v4 = false;
  in_addr four{};
  in6_addr six{};
};

std::optional<Address> address_of(const std::string& text) {
  Address out;
  if (::inet_pton(AF_INET, text.c_str(), &out.four) == 1) {
    out.v4 = true;
    return out;
  }
  if (::inet_pton(AF_INET6, text.c_str(), &out.six) == 1) return out;
  return std::nullopt;
}

bool is_loopback(const Address& address) {
  if (address.v4) return (ntohl(address.four.s_addr) >> 24U) == 127;
  return IN6_IS_ADDR_LOOPBACK(&address.six) != 0;
}

bool is_ours(std::string_view authority, const OwnHosts& hosts) {
  const std::string host = host_of(authority);
  if (host == "localhost") return true;
  if (!host.empty() && host != "*" && std::find(hosts.names.begin(), hosts.names.end(), host) != hosts.names.end())
    return true;
  const std::string& listen_address = hosts.listen_address;
  const std::optional<Address> address = address_of(host);
  if (!address) return false;
  if (is_loopback(*address)) return true;
  const bool everywhere = listen_address.empty() || listen_address == "0.0.0.0" || listen_address == "::";
  if (everywhere) return true;
  const std::optional<Address> own = address_of(listen_address);
  if (!own || own->v4 != address->v4) return false;
  if (own->v4) return own->four.s_addr == address->four.s_addr;
  return IN6_ARE_ADDR_EQUAL(&own->six, &address->six) != 0;
}

}  // namespace

bool is_readable(std::string_view host, const OwnHosts& hosts) {
  const bool any = std::find(hosts.names.begin(), hosts.names.end(), "*") != hosts.names.end();
  return host.empty() || any || is_ours(host, hosts);
}

std::optional<std::string> refusal(const Guarded& request, const OwnHosts& hosts) {
  const bool is_foreign = request.fetch_site == "cross-site" || request.fetch_site == "same-site";
  if (request.has_origin || is_foreign) return "requests of web pages of another origin are refused";
  if (!is_ours(request.host, hosts)) {
    return "the Host is none of this listener's: use its IP address or localhost, or name it in admin.hosts";
  }
  const std::string type = lowered(request.content_type.substr(0, request.content_type.find(';')));
  if (request.method == "POST" && type != "application/json") {
    return "a POST here needs Content-Type: application/json";
  }
  return std::nullopt;
}

}  // namespace sluice::admin

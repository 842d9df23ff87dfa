#include "http/proxy.hpp"

#include <algorithm>
#include <charconv>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>

#include <fmt/format.h>

#include "base/base64.hpp"

namespace sluice::http {
namespace {

namespace ip = boost::asio::ip;

std::optional<ip::address> address_of(std::string_view text) {
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  boost::system::error_code not_one;
  ip::address address = ip::make_address(std::string(text), not_one);
  if (not_one) return std::nullopt;
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    return ip::make_address_v4(ip::v4_mapped, address.to_v6());
  }
  return address;
}

bool is_in_network(std::string_view cidr, const ip::address& address) {
  boost::system::error_code not_one;
  if (address.is_v4()) {
    const ip::network_v4 network = ip::make_network_v4(std::string(cidr), not_one);
    return !not_one && (address.to_v4().to_uint() & network.netmask().to_uint()) ==
                           (network.address().to_uint() & network.netmask().to_uint());
  }
  const ip::network_v6 network = ip::make_network_v6(std::string(cidr), not_one);
  if (not_one) return false;
  return ip::network_v6(address.to_v6(), network.prefix_length()).canonical() == network.canonical();
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

std::string decoded(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string basic(std::string_view user) {
  std::string text = decoded(user.substr(0, user.find(':'))) + ":";
  if (const std::size_t colon = user.find(':'); colon != std::string_view::npos)
    text += decoded(user.substr(colon + 1));
  return "Basic " + encode_base64(text);
}

bool is_loopback(const Url& url) {
  if (url.host == "localhost" || url.host == "localhost.") return true;
  const auto address = address_of(url.host);
  return address && address->is_loopback();
}

}  // namespace

Result<ProxyServer> ProxyServer::parse(std::string_view url) {
  const std::size_t scheme = url.find("://");
  std::string_view rest = scheme == std::string_view::npos ? url : url.substr(scheme + 3);
  if (scheme != std::string_view::npos && lower(url.substr(0, scheme)) != "http") {
    return Error(Errc::config_invalid, "a proxy of another kind than http://");
  }
  ProxyServer out;
  if (const std::size_t at = rest.rfind('@'); at != std::string_view::npos) {
    out.authorization = basic(rest.substr(0, at));
    rest.remove_prefix(at + 1);
  }
  const Result<Url> parsed = Url::parse("http://" + std::string(rest));
  if (!parsed || parsed->target != "/") return Error(Errc::config_invalid, "not the URL of a proxy");
  out.host = parsed->host;
  out.port = parsed->port;
  return out;
}

std::string ProxyServer::authority() const {
  return fmt::format("{}:{}", host.find(':') == std::string::npos ? host : "[" + host + "]", port);
}

const ProxyServer* ProxyRules::find(const Url& url) const {
  const std::optional<ProxyServer>& server = url.is_tls() ? params_.https : params_.http;
  if (!server) return nullptr;
  if (params_.loopback_directly && is_loopback(url)) return nullptr;
  const bool exempt = std::any_of(params_.no_proxy.begin(), params_.no_proxy.end(), [&](const std::string& entry) {
    return matches_no_proxy(entry, url.host, url.port);
  });
  return exempt ? nullptr : &*server;
}

bool matches_no_proxy(std::string_view entry, std::string_view host, std::uint16_t port) {
  while (!entry.empty() && (entry.front() == ' ' || entry.front() == '\t')) entry.remove_prefix(1);
  while (!entry.empty() && (entry.back() == ' ' || entry.back() == '\t')) entry.remove_suffix(1);
  if (entry.empty()) return false;
  if (entry == "*") return true;
  while (host.ends_with('.')) host.remove_suffix(1);
  const auto address = address_of(host);
  if (entry.find('/') != std::string_view::npos) return address && is_in_network(entry, *address);

  std::string name = lower(entry);
  // "host:port", "[v6]:port"; a bare IPv6 address has colons of its own.
  const std::size_t colon = name.rfind(':');
  const bool bracketed = name.starts_with('[');
  if (colon != std::string::npos && (bracketed ? name[colon - 1] == ']' : name.find(':') == colon)) {
    unsigned wanted = 0;
    const char* const end = name.data() + name.size();
    if (std::from_chars(name.data() + colon + 1, end, wanted).ptr != end || wanted != port) return false;
    name.resize(colon);
  }
  if (const auto exempt = address_of(name)) return address && *exempt == *address;
  if (address) return false;
  if (name.starts_with("*.")) name.erase(0, 1);
  if (name.empty()) return false;
  if (name.front() == '.') return host.size() > name.size() && host.ends_with(name);
  return host == name || (host.size() > name.size() && host.ends_with("." + name));
}

std::string host_and_port(const Url& url) {
  return fmt::format("{}:{}", url.host.find(':') == std::string::npos ? url.host : "[" + url.host + "]", url.port);
}

}  // namespace sluice::http

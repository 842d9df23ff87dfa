#include "config/settings.hpp"

#include <arpa/inet.h>

#include <charconv>

namespace sluice::config {
namespace {

bool is_ip(const std::string& address) {
  in6_addr parsed{};
  return ::inet_pton(AF_INET, address.c_str(), &parsed) == 1 || ::inet_pton(AF_INET6, address.c_str(), &parsed) == 1;
}

Upstream at(std::string url) {
  Upstream out;
  out.url = std::move(url);
  return out;
}

}  // namespace

std::string Endpoint::to_string() const {
  const bool v6 = address.find(':') != std::string::npos;
  return (v6 ? "[" + address + "]" : address) + ":" + std::to_string(port);
}

std::optional<Endpoint> Endpoint::parse(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(colon + 1);
  Endpoint out;
  const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), out.port);
  if (ec != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;

  std::string_view host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
    if (host.find(':') == std::string_view::npos) return std::nullopt;
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // an IPv6 address needs its brackets, or the port could be a part of it
  }
  if (host == "localhost") host = "127.0.0.1";
  out.address = host;
  if (host.empty()) return out;
  if (out.address.find('\0') != std::string::npos || !is_ip(out.address)) return std::nullopt;
  return out;
}

std::map<std::string, Upstream, std::less<>> Settings::embedded_upstreams() {
  std::map<std::string, Upstream, std::less<>> out;
  out["docker.io"] = at("https://registry-1.docker.io");
  out["docker.io"].library_prefix = true;
  for (const char* name : {"ghcr.io", "quay.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com", "public.ecr.aws"}) {
    out[name] = at(std::string("https://") + name);
  }
  return out;
}

}  // namespace sluice::config

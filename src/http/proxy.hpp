// ProxyRules: which requests leave through a proxy, and which directly. Values and pure functions.
//
// The rules are those of Go's programs (golang.org/x/net/http/httpproxy), with which curl agrees: one proxy for https,
// one for http, and a list of exceptions: `*`; an address; a network in CIDR notation; `example.com`, the host and all
// below it; `.example.com` or `*.example.com`, only what is below it; each of them, but for networks, with a port.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "http/url.hpp"

namespace sluice::http {

struct ProxyServer {
  std::string host;
  std::uint16_t port = 0;
  std::string authorization;  // the value of Proxy-Authorization; empty: none

  // "http://[user:password@]host[:port]"; the port is 80 where there is none, as in Go. Errors: config_invalid, without
  // the text.
  static Result<ProxyServer> parse(std::string_view url);

  // Without credentials.
  [[nodiscard]] std::string authority() const;
};

class ProxyRules {
 public:
  struct Params {
    std::optional<ProxyServer> https;
    std::optional<ProxyServer> http;
    std::vector<std::string> no_proxy;
    // localhost and loopback addresses are reached directly, whatever the rest says.
    bool loopback_directly = true;
  };
  explicit ProxyRules(Params params) : params_(std::move(params)) {}

  // Null: directly. Lives as long as this object.
  [[nodiscard]] const ProxyServer* find(const Url& url) const;

 private:
  Params params_;
};

// Whether an entry of a list of exceptions is about that host and port.
bool matches_no_proxy(std::string_view entry, std::string_view host, std::uint16_t port);

// "host:port", with brackets around an IPv6 address: the target of a CONNECT.
std::string host_and_port(const Url& url);

}  // namespace sluice::http

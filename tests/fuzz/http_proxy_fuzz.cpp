// Proxies and their exceptions: what is refused is not repeated, and no exception stands for a host that it does not
// name.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/proxy.hpp"

using namespace sluice;
using namespace sluice::http;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Result<ProxyServer> server = ProxyServer::parse(text);
  if (server) {
    SLUICE_EXPECT(!server->host.empty() && server->port != 0);
    for (const char c : server->authorization) SLUICE_EXPECT(c >= 0x20 && c < 0x7f);
    const Result<ProxyServer> again = ProxyServer::parse(server->authority());
    SLUICE_EXPECT(again && again->host == server->host && again->port == server->port);
  } else {
    SLUICE_EXPECT(server.error().code == Errc::config_invalid && server.error().message.size() < 100);
  }
  const std::string_view entry = text.substr(0, text.find('\n'));
  const bool fits = matches_no_proxy(entry, "registry.example.com", 443);
  if (fits)
    SLUICE_EXPECT(entry.find('*') != std::string_view::npos || entry.find_first_of("cC") != std::string_view::npos);
  static_cast<void>(matches_no_proxy(entry, "10.1.2.3", 80));
  static_cast<void>(matches_no_proxy(entry, "fd00::1", 80));
  return 0;
}

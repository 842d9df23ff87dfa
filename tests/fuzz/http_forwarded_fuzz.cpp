// What a proxy says of its client: a PROXY header is never longer than what was received, the same however it arrives,
// and X-Forwarded-For never names a trusted proxy where another address stands before it.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/proxy_protocol.hpp"

using namespace sluice;
using namespace sluice::http;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using State = ProxyHeader::State;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const ProxyHeader whole = parse_proxy_header(text);
  if (whole.state == State::complete) {
    SLUICE_EXPECT(whole.bytes > 0 && whole.bytes <= size && whole.bytes <= kMaxProxyHeaderBytes);
    SLUICE_EXPECT(parse_proxy_header(text.substr(0, whole.bytes)).state == State::complete);
    for (std::size_t n = 0; n < whole.bytes; ++n) {
      SLUICE_EXPECT(parse_proxy_header(text.substr(0, n)).state == State::need_more);
    }
  }
  if (size > kMaxProxyHeaderBytes) SLUICE_EXPECT(whole.state != State::need_more);

  static const NetworkList trusted(std::vector<std::string>{"10.0.0.0/8", "fd00::/8"});
  if (const auto client = forwarded_client(text, trusted)) {
    SLUICE_EXPECT(IpAddress::parse(client->to_string()) == client);
    if (text.find(',') == std::string_view::npos) SLUICE_EXPECT(forwarded_client(text, {}) == client);
  }
  if (const auto network = Network::parse(text)) {
    const auto address = IpAddress::parse(text.substr(0, text.find('/')));
    SLUICE_EXPECT(address && network->contains(*address));
  }
  return 0;
}

// URLs and challenges, as strangers write them into Location and WWW-Authenticate: whatever is taken can go into a
// request line, and reads the same again.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/challenge.hpp"
#include "http/url.hpp"

using namespace sluice;
using namespace sluice::http;

namespace {

void check(const Result<Url>& url) {
  if (!url) {
    SLUICE_EXPECT(url.error().code == Errc::upstream_protocol);
    return;
  }
  SLUICE_EXPECT(url->scheme == "http" || url->scheme == "https");
  SLUICE_EXPECT(!url->host.empty() && url->port != 0);
  SLUICE_EXPECT(url->host.find_first_of("/?#@ \r\n") == std::string::npos);
  SLUICE_EXPECT(!url->target.empty() && url->target.front() == '/');
  for (const char c : url->target) SLUICE_EXPECT(c > 0x20 && c < 0x7f && c != '#');
  const Result<Url> again = Url::parse(url->to_string());
  SLUICE_EXPECT(again && *again == *url);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  static const Url base = *Url::parse("https://registry.example:5000/v2/a/blobs/b?x=1");
  check(Url::parse(text));
  check(base.resolve(text));
  for (const Challenge& challenge : parse_challenges(text)) {
    SLUICE_EXPECT(!challenge.scheme.empty());
    for (const auto& [name, value] : challenge.parameters) {
      SLUICE_EXPECT(!name.empty() && value.size() <= size);
      check(base.resolve(value));
    }
  }
  return 0;
}

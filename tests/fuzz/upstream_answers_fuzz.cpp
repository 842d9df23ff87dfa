// What registries and token servers say besides content: challenges, tokens, errors, the Link to the next page. What is
// taken can be sent on: no control characters, nowhere but below the registry's own /v2/.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "http/challenge.hpp"
#include "http/url.hpp"
#include "oci/error_code.hpp"
#include "upstream/next_page.hpp"
#include "upstream/rate_limit.hpp"
#include "upstream/refusal.hpp"
#include "upstream/token.hpp"

using namespace sluice;

namespace {

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const http::Challenge& challenge : http::parse_challenges(text)) {
    SLUICE_EXPECT(!challenge.scheme.empty());
    SLUICE_EXPECT(
        std::none_of(challenge.scheme.begin(), challenge.scheme.end(), [](char c) { return c >= 'A' && c <= 'Z'; }));
    for (const auto& [name, value] : challenge.parameters) {
      SLUICE_EXPECT(!name.empty() && value.size() <= text.size() && challenge.parameter(name));
    }
  }
  if (const Result<upstream::Token> token = upstream::parse_token(text)) {
    SLUICE_EXPECT(!token->text.empty() && !has_control(token->text));
    SLUICE_EXPECT(token->lifetime >= std::chrono::seconds(60));
    SLUICE_EXPECT(upstream::renewal_margin(token->lifetime) < token->lifetime);
  }
  if (const auto error = oci::parse_error_body(text)) {
    SLUICE_EXPECT(error->message.size() <= text.size() * 2 + 16);
  }
  const http::ReceivedHead head{200, 1, {{"Link", text}}};
  if (const std::string link = upstream::next_link(head); !link.empty()) {
    const http::Url base = *http::Url::parse("https://registry.test/mirror");
    const Result<std::string> page = upstream::next_page(base, "/mirror", "/v2/team/app/tags/list?n=10", link);
    if (page) {
      SLUICE_EXPECT(page->starts_with("/v2/") && !has_control(*page));
      SLUICE_EXPECT(page->substr(0, page->find('?')).find("/../") == std::string::npos &&
                    page->find(' ') == std::string::npos);
    }
  }
  static_cast<void>(upstream::parse_rate_limit(text));
  const std::chrono::seconds wait = upstream::parse_retry_after(text, Clock::Wall{});
  SLUICE_EXPECT(wait.count() >= 0 && wait <= std::chrono::hours(24));
  return 0;
}

// What a token server answers (distribution's token specification). Pure; reads what strangers wrote.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::upstream {

struct Token {
  std::string text;
  // 60 s where the server did not say, and at least that: old clients take a token for good that long, so servers must.
  // `issued_at` is not looked at: their clock is not ours, and our request was sent before it anyway.
  std::chrono::seconds lifetime{60};
};

// Room for two tokens of 32 KiB less what stands around them; registries' have 1 to 4 KiB.
inline constexpr std::size_t kMaxTokenBodyBytes = std::size_t{64} << 10;

// Errors: upstream_protocol, without any of the text.
Result<Token> parse_token(std::string_view json);

// How long before its end a token is replaced, so that none ends under way.
std::chrono::seconds renewal_margin(std::chrono::seconds lifetime) noexcept;

}  // namespace sluice::upstream

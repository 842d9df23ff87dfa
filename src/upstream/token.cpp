#include "upstream/token.hpp"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "oci/json.hpp"

namespace sluice::upstream {
namespace {

constexpr std::chrono::seconds kFloor{60};
constexpr std::chrono::seconds kCeiling{24 * 3600};
constexpr oci::JsonBounds kBounds{.bytes = kMaxTokenBodyBytes, .depth = 16, .values = 1'000};
constexpr std::size_t kMaxTokenBytes = std::size_t{32} << 10;

// A token goes into a request line's field: anything else than visible ASCII is not one (RFC 6750 section 2.1).
bool is_token(const std::string& text) {
  return !text.empty() && text.size() <= kMaxTokenBytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

Result<Token> parse_token(std::string_view json) {
  const Result<nlohmann::json> read = oci::parse_json(json, kBounds);
  if (!read) return read.error().in("a token answer");
  const nlohmann::json& parsed = *read;
  if (!parsed.is_object()) return Error(Errc::upstream_protocol, "a token answer that is not a JSON object");

  Token token;
  for (const char* key : {"token", "access_token"}) {
    const auto at = parsed.find(key);
    if (at == parsed.end() || !at->is_string()) continue;
    token.text = at->get<std::string>();
    if (!token.text.empty()) break;
  }
  if (!is_token(token.text)) return Error(Errc::upstream_protocol, "a token answer without a token");
  if (const auto at = parsed.find("expires_in"); at != parsed.end() && at->is_number()) {
    const double seconds = at->get<double>();
    if (seconds >= static_cast<double>(kCeiling.count())) {
      token.lifetime = kCeiling;
    } else if (seconds > static_cast<double>(kFloor.count())) {
      token.lifetime = std::chrono::seconds(static_cast<long>(seconds));
    }
  }
  return token;
}

std::chrono::seconds renewal_margin(std::chrono::seconds lifetime) noexcept {
  return std::min<std::chrono::seconds>(lifetime / 4, std::chrono::seconds(30));
}

}  // namespace sluice::upstream

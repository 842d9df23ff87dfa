#include "upstream/refusal.hpp"

#include <ctime>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace sluice::upstream {
namespace {

constexpr std::chrono::seconds kLongestWait{24 * 3600};

Errc unknown(Wanted wanted, const std::optional<oci::RegistryError>& said) {
  if (said && said->code == "NAME_UNKNOWN") return Errc::name_unknown;
  switch (wanted) {
    case Wanted::blob: return Errc::blob_unknown;
    case Wanted::manifest: return Errc::manifest_unknown;
    case Wanted::registry: break;
  }
  return Errc::upstream_protocol;  // a registry has /v2/
}

Errc code_of(int status, Wanted wanted, const std::optional<oci::RegistryError>& said) {
  switch (status) {
    case 401: return Errc::unauthorized;
    case 403: return Errc::denied;
    case 404:
    case 410: return unknown(wanted, said);
    case 408: return Errc::upstream_timeout;
    case 416: return Errc::range_invalid;
    case 429: return Errc::throttled;
    case 508: return Errc::upstream_loop;
    default: return status >= 500 ? Errc::upstream_failed : Errc::upstream_protocol;
  }
}

}  // namespace

std::chrono::seconds parse_retry_after(std::string_view value, Clock::Wall now) {
  if (value.empty()) return {};
  if (std::all_of(value.begin(), value.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    long seconds = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
    if (error != std::errc{}) return kLongestWait;
    return std::min(std::chrono::seconds(seconds), kLongestWait);
  }
  std::tm date{};
  const std::string text(value);
  const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date);
  if (end == nullptr || *end != '\0') return {};
  // In seconds: a year far from ours is no time_point of the clock.
  const std::chrono::seconds wait(timegm(&date) - std::chrono::system_clock::to_time_t(now));
  return std::clamp(wait, std::chrono::seconds(0), kLongestWait);
}

bool is_transient(int status) noexcept {
  // 520 to 524 come from a CDN that does not get through to the registry.
  return status == 408 || status == 500 || (status >= 502 && status <= 504) || (status >= 520 && status <= 524);
}

Error refusal(int status, Wanted wanted, std::string_view where, const std::optional<oci::RegistryError>& said,
              std::chrono::seconds retry_after) {
  std::string text = fmt::format("{}: {}", where, status);
  if (said && !said->code.empty()) text += " " + said->code;
  if (said && !said->message.empty()) text += ": " + said->message;
  return {code_of(status, wanted, said), std::move(text), retry_after};
}

}  // namespace sluice::upstream

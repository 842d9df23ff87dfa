// What a status other than success means: the one place where an upstream's status becomes an Errc. Pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/errc.hpp"
#include "oci/error_code.hpp"

namespace sluice::upstream {

enum class Wanted : std::uint8_t { blob, manifest, registry };

// Retry-After (RFC 9110 section 10.2.3): seconds or a date, at most a day; zero when missing or not understood.
std::chrono::seconds parse_retry_after(std::string_view value, Clock::Wall now);

// Worth another try soon: 408, 500, 502, 503, 504.
bool is_transient(int status) noexcept;

// `where` is "GET host/path". `said` is what upstream's body says, where it says something.
Error refusal(int status, Wanted wanted, std::string_view where, const std::optional<oci::RegistryError>& said,
              std::chrono::seconds retry_after);

}  // namespace sluice::upstream

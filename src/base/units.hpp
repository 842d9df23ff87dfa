// Sizes and durations as people write them: "8MiB", "1.5 GiB", "90s", "1h30m". Pure functions.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice {

// A number with an optional unit: B, kB/KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB, TiB (powers of 1024), and K, M,
// G, T, or k, m, g, t, for the latter. A bare number is bytes. Errors: config_invalid, with what was expected.
Result<std::uint64_t> parse_bytes(std::string_view text);

// A sequence of numbers with units ns, us, ms, s, m, h, d, as Go prints durations ("1h30m", "0.5s"); "0" alone is zero.
// Errors: config_invalid.
Result<std::chrono::nanoseconds> parse_duration(std::string_view text);

// In the unit that suits, with three digits that count: "512 B", "8 MiB", "1.21 GiB".
std::string format_bytes(std::uint64_t bytes);

// "250ms", "1m30s", "2h".
std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace sluice

// A number of bytes, given as such or as a part of what a file system holds. A value; any thread.
#pragma once

#include <cstdint>

namespace sluice {

struct SizeLimit {
  std::uint64_t bytes = 0;
  unsigned percent = 0;  // 1 to 100; then `bytes` is 0

  [[nodiscard]] constexpr bool off() const noexcept { return bytes == 0 && percent == 0; }
  [[nodiscard]] constexpr std::uint64_t of(std::uint64_t capacity_bytes) const noexcept {
    return percent == 0 ? bytes : capacity_bytes / 100 * percent;
  }
  friend bool operator==(const SizeLimit&, const SizeLimit&) = default;
};

}  // namespace sluice

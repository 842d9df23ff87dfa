// Platforms as docker names them: "linux/amd64", "linux/arm/v7". A value; pure, but for this_machine.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace sluice::app {

struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;  // empty: any

  // "OS/ARCH" or "OS/ARCH/VARIANT"; "ARCH" alone means linux. Errors: config_invalid.
  static Result<Platform> parse(std::string_view text);
  // linux on the processor that this runs on.
  static Platform this_machine();

  // Whether an image for `other` runs where this one does: arm64 is arm64/v8, and without a variant any will do.
  [[nodiscard]] bool takes(const Platform& other) const;
  [[nodiscard]] std::string to_string() const;
};

}  // namespace sluice::app

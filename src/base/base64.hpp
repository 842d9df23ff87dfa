// Base64 (RFC 4648). Pure functions; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice {

// What stands for the values 62 and 63: "+/" (section 4) or "-_" (section 5).
enum class Base64 : std::uint8_t { standard, url };

// With or without padding. Nothing for what has a character of neither the alphabet nor the padding at the end.
std::optional<std::string> decode_base64(std::string_view text, Base64 alphabet);

// In the standard alphabet, with padding.
std::string encode_base64(std::string_view bytes);

}  // namespace sluice

// What an answer says that upstream could not be asked about.
#pragma once

#include <string_view>

namespace sluice::proxy {

// A line of a head. RFC 7234 section 5.5.1; RFC 9111 has dropped the field, but it is the one that people look for.
inline constexpr std::string_view kStaleWarning = "Warning: 110 - \"Response is Stale\"\r\n";

}  // namespace sluice::proxy

// Rights: with whose credentials an upstream is asked. What was fetched anonymously anybody could have fetched; what
// was fetched with a login could be seen with that login alone.
#pragma once

#include <cstdint>

namespace sluice {

enum class Rights : std::uint8_t {
  anonymous,
  own_login,     // the configuration's credentials, or its client certificate
  client_login,  // the Authorization of a client (access: passthrough)
};

}  // namespace sluice

// The errors that clients get where it is upstream's word that counts, and there is none, or it is remembered.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "descriptors/scope.hpp"

namespace sluice::access {

// Upstream is out, and nothing says that `scope` may have what was asked for. The same words whether that is stored
// here or not, so that an outage does not tell what others have pulled.
Error unanswered(const descriptors::Scope& scope, Error outage);

// Upstream's word that `scope` does not have that, which is remembered.
Error said_unknown(Errc code, const descriptors::Scope& scope, std::string_view what);

}  // namespace sluice::access

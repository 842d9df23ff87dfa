// The errors that clients get where it is upstream's word that counts, and there is none, or it is remembered.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "access/upstreams.hpp"
#include "base/result.hpp"
#include "descriptors/scope.hpp"
#include "oci/digest.hpp"

namespace sluice::access {

// Upstream is out, and nothing says that `scope` may have what was asked for. The same words whether that is stored
// here or not, so that an outage does not tell what others have pulled.
Error unanswered(const descriptors::Scope& scope, Error outage);

// Upstream's word that `scope` does not have that, which is remembered.
Error said_unknown(Errc code, const descriptors::Scope& scope, std::string_view what);

// What upstream sends of a blob is something else than what lies at rest or arrives. An odd answer. Who has not been
// let in does not hear what there is.
Error sends_other(const Route& route, const oci::Digest& digest);
// What the log says where upstream tells `told` bytes of a blob that has `size`.
std::string other_length(const Route& route, const oci::Digest& digest, std::uint64_t told, std::uint64_t size);

}  // namespace sluice::access

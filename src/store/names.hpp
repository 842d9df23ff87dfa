// The names of one content: the sha256 under which its bytes lie, and the sha512 or sha384 that it was asked for by.
#pragma once

#include <span>
#include <vector>

#include "oci/digest.hpp"
#include "store/catalog.hpp"

namespace sluice::store {

// What was found out about the same bytes here, which stands in the global scope; `digest` where nothing is known.
oci::Digest canonical_name(const Catalog& catalog, const oci::Digest& digest);

// By what else than `digests` a repository has what they name. Walks its members: for removals, once for each.
std::vector<oci::Digest> other_names(const Catalog& catalog, const Scope& scope, std::span<const oci::Digest> digests);

}  // namespace sluice::store

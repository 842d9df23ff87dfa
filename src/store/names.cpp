#include "store/names.hpp"

#include <optional>
#include <set>

namespace sluice::store {

oci::Digest canonical_name(const Catalog& catalog, const oci::Digest& digest) {
  if (digest.algorithm() == oci::Algorithm::sha256) return digest;
  const std::optional<Membership> known = catalog.membership(Scope(), digest);
  return known ? known->descriptor.digest : digest;
}

std::vector<oci::Digest> other_names(const Catalog& catalog, const Scope& scope, std::span<const oci::Digest> digests) {
  const std::set<oci::Digest> given(digests.begin(), digests.end());
  std::set<oci::Digest> canonical;
  for (const oci::Digest& digest : digests) canonical.insert(canonical_name(catalog, digest));
  std::vector<oci::Digest> out;
  for (const Member& member : catalog.members(scope)) {
    if (!given.contains(member.digest) && canonical.contains(canonical_name(catalog, member.digest))) {
      out.push_back(member.digest);
    }
  }
  return out;
}

}  // namespace sluice::store

#include "store/layout.hpp"

#include <string>

namespace sluice::store {

runtime::Path Layout::blobs(oci::Algorithm algorithm) const { return blobs() / oci::name(algorithm); }

runtime::Path Layout::shelf(const oci::Digest& digest) const {
  return blobs(digest.algorithm()) / digest.encoded().substr(0, 2);
}

runtime::Path Layout::blob(const oci::Digest& digest) const { return shelf(digest) / digest.encoded(); }

runtime::Path Layout::part(const oci::Digest& digest) const {
  return incoming() / (std::string(digest.algorithm_name()) + "-" + digest.encoded() + ".part");
}

std::optional<oci::Digest> Layout::digest_of(oci::Algorithm algorithm, std::string_view shelf, std::string_view name) {
  if (name.substr(0, 2) != shelf) return std::nullopt;
  Result<oci::Digest> digest = oci::Digest::parse(std::string(oci::name(algorithm)) + ":" + std::string(name));
  if (!digest) return std::nullopt;
  return *digest;
}

}  // namespace sluice::store

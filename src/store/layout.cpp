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

runtime::Path Layout::part(const oci::Digest& digest, std::uint64_t number) const {
  return incoming() /
         (std::string(digest.algorithm_name()) + "-" + digest.encoded() + "." + std::to_string(number) + ".part");
}

std::optional<oci::Digest> Layout::part_digest(std::string_view name) {
  constexpr std::string_view kSuffix = ".part";
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  if (const std::size_t dot = name.rfind('.'); dot != std::string_view::npos) {
    const std::string_view number = name.substr(dot + 1);
    if (number.empty() || number.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
    name = name.substr(0, dot);
  }
  const std::size_t dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  Result<oci::Digest> digest =
      oci::Digest::parse(std::string(name.substr(0, dash)) + ":" + std::string(name.substr(dash + 1)));
  if (!digest) return std::nullopt;
  return *digest;
}

std::optional<oci::Digest> Layout::digest_of(oci::Algorithm algorithm, std::string_view shelf, std::string_view name) {
  if (name.substr(0, 2) != shelf) return std::nullopt;
  Result<oci::Digest> digest = oci::Digest::parse(std::string(oci::name(algorithm)) + ":" + std::string(name));
  if (!digest) return std::nullopt;
  return *digest;
}

}  // namespace sluice::store

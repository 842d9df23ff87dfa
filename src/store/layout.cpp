#include "store/layout.hpp"

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace sluice::store {
namespace {

constexpr std::size_t kTagDigits = 16;

bool is_tag(std::string_view text) {
  return text.size() == 1 + kTagDigits && text.front() == 'u' &&
         text.find_first_not_of("0123456789abcdef", 1) == std::string_view::npos;
}

}  // namespace

runtime::Path Layout::blobs(oci::Algorithm algorithm) const { return blobs() / oci::name(algorithm); }

runtime::Path Layout::shelf(const oci::Digest& digest) const {
  return blobs(digest.algorithm()) / digest.encoded().substr(0, 2);
}

runtime::Path Layout::blob(const oci::Digest& digest) const { return shelf(digest) / digest.encoded(); }

runtime::Path Layout::part(const oci::Digest& digest, std::string_view tag) const {
  return incoming() / fmt::format("{}-{}.{}.part", digest.algorithm_name(), digest.encoded(), tag);
}

runtime::Path Layout::part(const oci::Digest& digest, std::string_view tag, std::uint64_t number) const {
  return incoming() / fmt::format("{}-{}.{}.{}.part", digest.algorithm_name(), digest.encoded(), tag, number);
}

std::string Layout::part_tag(const Origin& origin) {
  const std::string text = fmt::format("{}\n{}", static_cast<int>(origin.rights), origin.upstream);
  return "u" + oci::digest_of(oci::Algorithm::sha256, text).encoded().substr(0, kTagDigits);
}

std::optional<Layout::PartName> Layout::part_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".part";
  if (!name.ends_with(kSuffix)) return std::nullopt;
  name.remove_suffix(kSuffix.size());
  const std::size_t dash = name.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const std::size_t end = name.find('.');
  Result<oci::Digest> digest = oci::Digest::parse(std::string(name.substr(0, dash)) + ":" +
                                                  std::string(name.substr(dash + 1, end - std::min(end, dash + 1))));
  if (!digest) return std::nullopt;
  PartName out{*digest, {}};
  if (end == std::string_view::npos) return out;
  name.remove_prefix(end + 1);
  if (is_tag(name.substr(0, name.find('.')))) {
    out.tag = name.substr(0, 1 + kTagDigits);
    name.remove_prefix(out.tag.size());
    if (name.empty()) return out;
    name.remove_prefix(1);
  }
  if (name.empty() || name.find_first_not_of("0123456789") != std::string_view::npos) return std::nullopt;
  return out;
}

std::optional<oci::Digest> Layout::digest_of(oci::Algorithm algorithm, std::string_view shelf, std::string_view name) {
  if (name.substr(0, 2) != shelf) return std::nullopt;
  Result<oci::Digest> digest = oci::Digest::parse(std::string(oci::name(algorithm)) + ":" + std::string(name));
  if (!digest) return std::nullopt;
  return *digest;
}

}  // namespace sluice::store

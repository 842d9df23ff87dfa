#include "oci/media_type.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>

#include "base/ascii.hpp"

namespace sluice::oci {
namespace {

// The order gives the bits of ManifestClass, which tags are stored under: append only.
constexpr std::array<std::string_view, 6> kManifestTypes = {
    media_type::kDockerSchema1, media_type::kDockerSchema1Signed, media_type::kDockerSchema2,
    media_type::kDockerList,    media_type::kOciManifest,         media_type::kOciIndex};
constexpr std::size_t kNone = kManifestTypes.size();
static_assert(kAllManifests == (1u << kManifestTypes.size()) - 1);

// Without a space, which Redis does not keep in a media type (descriptors/redis_reply.cpp).
constexpr std::string_view kManifestMark = ";kind=manifest";

// Ranges that name no manifest type and are kept for accepts(). Real clients send one or two.
constexpr std::size_t kMaxRanges = 32;

constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_nocase(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

// RFC 9110 section 5.6.2
constexpr bool is_token_char(char c) noexcept {
  if (c <= ' ' || c >= 0x7f) return false;
  return std::string_view("\"(),/:;<=>?@[\\]{}").find(c) == std::string_view::npos;
}

bool is_token(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

// Index into kManifestTypes, or kNone. `bare` has no parameters.
std::size_t manifest_index(std::string_view bare) noexcept {
  for (std::size_t i = 0; i < kManifestTypes.size(); ++i) {
    if (bare == kManifestTypes[i]) return i;  // as everybody writes them
  }
  for (std::size_t i = 0; i < kManifestTypes.size(); ++i) {
    if (equal_nocase(bare, kManifestTypes[i])) return i;
  }
  return kNone;
}

// Cuts the text before the first `separator` that is not inside a quoted string off `rest`.
std::string_view take_until(std::string_view& rest, char separator) noexcept {
  bool quoted = false;
  std::size_t at = std::min(rest.find(separator), rest.size());
  if (rest.substr(0, at).find('"') != std::string_view::npos) at = 0;  // the separator found may be a quoted one
  for (; at < rest.size(); ++at) {
    const char c = rest[at];
    if (quoted && c == '\\') {
      ++at;
    } else if (c == '"') {
      quoted = !quoted;
    } else if (!quoted && c == separator) {
      break;
    }
  }
  const std::string_view head = rest.substr(0, at);
  rest.remove_prefix(std::min(at + 1, rest.size()));
  return head;
}

// Whether a weight refuses: 0, 0., 0.000. What is not a weight does not.
bool is_zero_weight(std::string_view value) noexcept {
  if (value.empty() || value.front() != '0') return false;
  value.remove_prefix(1);
  if (value.empty()) return true;
  if (value.front() != '.') return false;
  return value.substr(1).find_first_not_of('0') == std::string_view::npos;
}

// Whether the parameters of a media range hold a weight of 0.
bool refused_by(std::string_view parameters) noexcept {
  while (!parameters.empty()) {
    const std::string_view parameter = trim(take_until(parameters, ';'));
    const std::size_t equals = parameter.find('=');
    if (equals == std::string_view::npos || !equal_nocase(trim(parameter.substr(0, equals)), "q")) continue;
    return is_zero_weight(trim(parameter.substr(equals + 1)));
  }
  return false;
}

// "type/subtype", "type/*" or "*/*".
bool is_media_range(std::string_view bare) noexcept {
  const std::size_t slash = bare.find('/');
  if (slash == std::string_view::npos) return false;
  const std::string_view type = bare.substr(0, slash);
  const std::string_view subtype = bare.substr(slash + 1);
  return is_token(type) && is_token(subtype) && (type != "*" || subtype == "*");
}

// Of equally specific ranges that differ in parameters, one that accepts is enough.
void merge(std::optional<bool>& verdict, bool accepted) noexcept { verdict = verdict.value_or(false) || accepted; }

}  // namespace

std::string_view strip_parameters(std::string_view value) noexcept { return trim(value.substr(0, value.find(';'))); }

std::string_view canonical_manifest_type(std::string_view value) noexcept {
  const std::size_t index = manifest_index(strip_parameters(value));
  return index == kNone ? std::string_view() : kManifestTypes[index];
}

bool is_manifest(std::string_view value) noexcept { return !canonical_manifest_type(value).empty(); }

std::string manifest_note(std::string_view type) {
  const std::string_view known = canonical_manifest_type(type);
  if (!known.empty()) return std::string(known);
  return std::string(strip_parameters(type)).append(kManifestMark);
}

std::string_view noted_manifest_type(std::string_view note) noexcept {
  if (note.ends_with(kManifestMark)) return note.substr(0, note.size() - kManifestMark.size());
  return canonical_manifest_type(note);
}

bool is_index(std::string_view value) noexcept {
  const std::string_view type = canonical_manifest_type(value);
  return type == media_type::kDockerList || type == media_type::kOciIndex;
}

bool is_schema1(std::string_view value) noexcept {
  const std::string_view type = canonical_manifest_type(value);
  return type == media_type::kDockerSchema1 || type == media_type::kDockerSchema1Signed;
}

std::string_view manifest_accept() noexcept {
  // Without weights: registries that compare the elements as plain text exist. Schema 1 stands behind the others that
  // the same image may have; artifacts and what vendors have made up have one form only.
  return "application/vnd.oci.image.index.v1+json, "
         "application/vnd.docker.distribution.manifest.list.v2+json, "
         "application/vnd.oci.image.manifest.v1+json, "
         "application/vnd.docker.distribution.manifest.v2+json, "
         "application/vnd.docker.distribution.manifest.v1+prettyjws, "
         "application/vnd.docker.distribution.manifest.v1+json, "
         "application/vnd.oci.artifact.manifest.v1+json, "
         "application/vnd.cncf.oras.artifact.manifest.v1+json, */*";
}

std::string accept_value(ManifestClass types) {
  std::string out;
  for (std::size_t index = kManifestTypes.size(); index-- > 0;) {
    if ((types & (1u << index)) == 0) continue;
    out.append(out.empty() ? "" : ", ").append(kManifestTypes.at(index));
  }
  return out;
}

ManifestClass manifest_bit(std::string_view value) noexcept {
  const std::size_t index = manifest_index(strip_parameters(value));
  return index == kNone ? ManifestClass{0} : static_cast<ManifestClass>(1u << index);
}

Accept Accept::parse(std::string_view joined) {
  Accept result;
  std::array<std::optional<bool>, kManifestTypes.size()> exact;
  std::optional<bool> all_of_application;
  std::optional<bool> all;
  bool usable = false;

  while (!joined.empty()) {
    std::string_view parameters = take_until(joined, ',');
    std::string_view bare = trim(take_until(parameters, ';'));
    if (bare == "*") bare = "*/*";  // sent by old Java clients
    const std::size_t index = manifest_index(bare);
    if (index == kNone && !is_media_range(bare)) continue;
    usable = true;
    const bool accepted = !refused_by(parameters);

    if (index != kNone) {
      merge(exact[index], accepted);
      continue;
    }
    if (bare == "*/*") {
      merge(all, accepted);
      continue;
    }
    if (equal_nocase(bare, "application/*")) merge(all_of_application, accepted);
    const auto same = std::find_if(result.ranges_.begin(), result.ranges_.end(),
                                   [&](const Range& range) { return equal_nocase(range.text, bare); });
    if (same != result.ranges_.end()) {
      same->accepted = same->accepted || accepted;
    } else if (result.ranges_.size() < kMaxRanges) {
      Range range{std::string(bare), accepted};
      std::transform(range.text.begin(), range.text.end(), range.text.begin(), lower);
      result.ranges_.push_back(std::move(range));
    }
  }
  if (!usable) return Accept();

  result.any_ = all.value_or(false);
  result.class_ = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    if (exact[i].value_or(all_of_application.value_or(result.any_))) {
      result.class_ = static_cast<ManifestClass>(result.class_ | 1u << i);
    }
  }
  return result;
}

bool Accept::accepts(std::string_view value) const noexcept {
  const std::string_view bare = strip_parameters(value);
  if (const std::size_t index = manifest_index(bare); index != kNone) return (class_ >> index & 1u) != 0;

  const Range* by_type = nullptr;
  const std::size_t slash = bare.find('/');
  if (slash == std::string_view::npos) return any_;
  const std::string_view type = bare.substr(0, slash);
  for (const Range& range : ranges_) {
    const std::string_view text = range.text;
    if (equal_nocase(text, bare)) return range.accepted;
    if (text.size() == type.size() + 2 && text.ends_with("/*") && equal_nocase(text.substr(0, type.size()), type)) {
      by_type = &range;
    }
  }
  return by_type != nullptr ? by_type->accepted : any_;
}

}  // namespace sluice::oci

// The JSON of lists: what upstream sends is checked before any of it is passed on. Pure; reads what strangers wrote, in
// time that grows with its length alone, and within bounds of depth and number of values.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "oci/digest.hpp"
#include "pull/name_list.hpp"

namespace sluice::pull {

// Adds the tags of one page of tags/list to `into`; what is no tag is left out.
// Errors: upstream_protocol, for anything else than an object with a list (or null) of strings; some may have been
// added then.
Result<void> parse_tags(std::string_view body, NameList::Builder& into);

// A manifest that refers to another one: its descriptor in one line, with whatever upstream wrote there.
struct Referrer {
  std::string descriptor;
  std::string artifact_type;               // empty: none
  std::string digest_text;                 // as upstream wrote it
  std::optional<oci::Digest> digest = {};  // none where nobody here knows its algorithm
};

struct ReadReferrers {
  std::vector<Referrer> referrers;
  std::size_t left_out = 0;  // entries that are no descriptors: they name no digest, or none that is well formed
};

// Those of an image index. Bytes that are not UTF-8 in its strings are handed on as they are.
// Errors: upstream_protocol, for what is no JSON with such a list, and where all of its entries would be left out.
Result<ReadReferrers> parse_referrers(std::string_view body);

// What stands before and behind the names of a page.
std::string tags_opening(std::string_view repository);
inline constexpr std::string_view kCatalogOpening = R"({"repositories":[)";
inline constexpr std::string_view kListClosing = "]}";

}  // namespace sluice::pull

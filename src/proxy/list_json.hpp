// The JSON of lists: what upstream sends is checked before any of it is passed on. Pure; reads what strangers wrote.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace sluice::proxy {

// The tags of one page of tags/list, as they stand there; what is no tag is left out.
// Errors: upstream_protocol, for anything else than an object with a list (or null) of strings.
Result<std::vector<std::string>> parse_tags(std::string_view body);

// A manifest that refers to another one: its descriptor as upstream wrote it, in one line.
struct Referrer {
  std::string descriptor;
  std::string artifact_type;  // empty: none
};

// Those of an image index. Errors: upstream_protocol, for bytes that are no valid index.
Result<std::vector<Referrer>> parse_referrers(std::string_view body);

// The image index of those that have `artifact_type`; of all where it is empty.
std::string referrers_body(const std::vector<Referrer>& referrers, std::string_view artifact_type);

std::string tags_body(std::string_view repository, const std::vector<std::string>& tags);
std::string catalog_body(const std::vector<std::string>& repositories);

}  // namespace sluice::proxy

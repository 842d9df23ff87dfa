#include "proxy/list_json.hpp"

#include <nlohmann/json.hpp>

#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "oci/name.hpp"

namespace sluice::proxy {
namespace {

using nlohmann::json;

// Lists need four levels; annotations of a descriptor make it five.
constexpr int kMaxDepth = 32;

// What is nested deeper is left out. A discarded value for what is not JSON.
json parse_bounded(std::string_view text) {
  const json::parser_callback_t shallow = [](int depth, json::parse_event_t, json&) { return depth <= kMaxDepth; };
  return json::parse(text.begin(), text.end(), shallow, false);
}

std::string text_of(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// Texts that came from elsewhere are valid UTF-8 once parsed; a client's own may be anything.
std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

}  // namespace

Result<std::vector<std::string>> parse_tags(std::string_view body) {
  const json parsed = parse_bounded(body);
  if (!parsed.is_object()) return Error{Errc::upstream_protocol, "its list of tags is not a JSON object"};
  const auto tags = parsed.find("tags");
  if (tags == parsed.end() || !(tags->is_array() || tags->is_null())) {
    return Error{Errc::upstream_protocol, "its list of tags has no tags"};
  }
  std::vector<std::string> out;
  for (const json& tag : *tags) {
    if (!tag.is_string()) return Error{Errc::upstream_protocol, "its list of tags holds something else"};
    std::string text = tag.get<std::string>();
    if (oci::Tag::parse(text)) out.push_back(std::move(text));
  }
  return out;
}

Result<std::vector<Referrer>> parse_referrers(std::string_view body) {
  const Result<oci::ManifestInfo> info = oci::parse_manifest(body, oci::media_type::kOciIndex);
  if (!info) return Error{Errc::upstream_protocol, "its list of referrers: " + info.error().message};
  const json parsed = parse_bounded(body);
  std::vector<Referrer> out;
  if (!parsed.is_object() || !parsed.contains("manifests") || !parsed["manifests"].is_array()) {
    return Error{Errc::upstream_protocol, "its list of referrers has no manifests"};
  }
  for (const json& descriptor : parsed["manifests"]) {
    // What the index was checked for: digest and size. A type is needed as well, for it is what a client goes by.
    if (!descriptor.is_object() || text_of(descriptor, "mediaType").empty()) {
      return Error{Errc::upstream_protocol, "its list of referrers has one without a media type"};
    }
    out.push_back(Referrer{dump(descriptor), text_of(descriptor, "artifactType")});
  }
  return out;
}

std::string referrers_body(const std::vector<Referrer>& referrers, std::string_view artifact_type) {
  std::string out = R"({"schemaVersion":2,"mediaType":")";
  out.append(oci::media_type::kOciIndex).append(R"(","manifests":[)");
  bool first = true;
  for (const Referrer& referrer : referrers) {
    if (!artifact_type.empty() && referrer.artifact_type != artifact_type) continue;
    if (!first) out += ',';
    first = false;
    out += referrer.descriptor;
  }
  return out.append("]}");
}

std::string tags_body(std::string_view repository, const std::vector<std::string>& tags) {
  return dump(json{{"name", repository}, {"tags", tags}});
}

std::string catalog_body(const std::vector<std::string>& repositories) {
  return dump(json{{"repositories", repositories}});
}

}  // namespace sluice::proxy

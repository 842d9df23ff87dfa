// Manifests and error bodies. The first line of the input is the content type, the rest the bytes.
//
// The oracle reads the same bytes as a tree: what was taken must say there what we read.

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "fuzz/expect.hpp"
#include "oci/error_code.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "oci/signed_manifest.hpp"

using namespace sluice;
using namespace sluice::oci;
using nlohmann::json;

namespace {

bool same(const Descriptor& ours, const json& theirs) {
  return theirs.is_object() && theirs.at("digest") == ours.digest.to_string() && theirs.at("size") == ours.size &&
         validate(ours).has_value();
}

const json* list_of(const json& body, const char* key) {
  const auto found = body.find(key);
  return found != body.end() && found->is_array() ? &*found : nullptr;
}

void check_references(const ManifestInfo& info, const json& body) {
  std::size_t next = 0;
  const json* list = list_of(body, info.is_index ? "manifests" : "layers");
  if (!info.is_index) SLUICE_EXPECT(same(info.references.at(next++), body.at("config")));
  SLUICE_EXPECT(info.references.size() == next + (list == nullptr ? 0 : list->size()));
  if (list == nullptr) return;
  for (const json& entry : *list) SLUICE_EXPECT(same(info.references.at(next++), entry));
}

// Bytes that are not UTF-8 count as '?' in a manifest.
json tree_of(std::string_view bytes) {
  json tree = json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (!tree.is_discarded()) return tree;
  std::string replaced(bytes);
  for (char& c : replaced) {
    if ((static_cast<unsigned char>(c) & 0x80U) != 0) c = '?';
  }
  return json::parse(replaced, nullptr, false);
}

// A reader of the signed form sees what the payload says.
void check_signed(std::string_view bytes) {
  const std::optional<std::string> payload = signed_payload(bytes);
  if (!payload) return;
  json signed_form = json::parse(bytes.begin(), bytes.end(), nullptr, false);
  const json plain = json::parse(*payload, nullptr, false);
  SLUICE_EXPECT(plain.is_object() && plain.at("schemaVersion") == 1);
  SLUICE_EXPECT(signed_form.erase("signatures") == 1 && signed_form == plain);
}

void check_manifest(std::string_view bytes, std::string_view content_type) {
  const Result<ManifestInfo> info = parse_manifest(bytes, content_type);
  if (!info) {
    SLUICE_EXPECT(info.error().code == Errc::manifest_invalid);
    return;
  }
  const json body = tree_of(bytes);
  SLUICE_EXPECT(body.is_object());
  SLUICE_EXPECT(is_manifest(info->media_type));
  SLUICE_EXPECT(info->is_index == is_index(info->media_type));
  SLUICE_EXPECT(!body.contains("manifests") || (!body.contains("config") && !body.contains("layers")));
  SLUICE_EXPECT(!info->subject || same(*info->subject, body.at("subject")));
  SLUICE_EXPECT(info->artifact_type.empty() || body.at("artifactType") == info->artifact_type);
  if (is_schema1(info->media_type)) {
    SLUICE_EXPECT(info->references.empty());
  } else {
    check_references(*info, body);
  }
  // Once decided, the type is one that the same bytes can be read by again.
  const Result<ManifestInfo> again = parse_manifest(bytes, info->media_type);
  SLUICE_EXPECT(again && *again == *info);
}

void check_errors(std::string_view bytes, std::string_view message) {
  if (const auto error = parse_error_body(bytes)) {
    SLUICE_EXPECT(!error->code.empty() || !error->message.empty());
    const std::string round = error_body(ErrorCode::unknown, error->message);
    SLUICE_EXPECT(json::parse(round).at("errors").at(0).at("message") == error->message);
  }
  const json body = json::parse(error_body(ErrorCode::denied, message, bytes), nullptr, false);
  SLUICE_EXPECT(body.is_object() && body.size() == 1 && body.at("errors").at(0).size() == 3);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = text.find('\n');
  const std::string_view content_type = text.substr(0, line);
  const std::string_view bytes = line == std::string_view::npos ? std::string_view() : text.substr(line + 1);
  check_manifest(bytes, content_type);
  check_manifest(bytes, {});
  check_signed(bytes);
  check_errors(bytes, content_type);
  return 0;
}

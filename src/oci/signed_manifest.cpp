#include "oci/signed_manifest.hpp"

#include <cstdint>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/base64.hpp"
#include "oci/json.hpp"

namespace sluice::oci {
namespace {

using nlohmann::json;

// The largest ones that registries have kept are some 100 KB. Small enough for an event loop.
constexpr JsonBounds kBounds{.bytes = std::size_t{512} << 10, .depth = 16, .values = 20'000};
constexpr std::string_view kName = "\"signatures\"";

// How the payload was made: its first `kept` bytes are those of the signed form, and `tail` is the rest.
struct Format {
  std::uint64_t kept = 0;
  std::string tail;
};

const json* find(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto at = object.find(key);
  return at == object.end() ? nullptr : &*at;
}

// From the protected header of the first signature; libtrust wants all of them to say the same.
std::optional<Format> format_of(const json& signed_form) {
  const json* const signatures = find(signed_form, "signatures");
  if (signatures == nullptr || !signatures->is_array() || signatures->empty()) return std::nullopt;
  const json* const header = find(signatures->front(), "protected");
  if (header == nullptr || !header->is_string()) return std::nullopt;
  const auto text = decode_base64(header->get_ref<const std::string&>(), Base64::url);
  if (!text) return std::nullopt;
  const Result<json> said = parse_json(*text, kBounds);
  if (!said) return std::nullopt;
  const json* const length = find(*said, "formatLength");
  const json* const tail = find(*said, "formatTail");
  if (length == nullptr || !length->is_number_unsigned() || tail == nullptr || !tail->is_string()) return std::nullopt;
  auto decoded = decode_base64(tail->get_ref<const std::string&>(), Base64::url);
  if (!decoded) return std::nullopt;
  return Format{length->get<std::uint64_t>(), *std::move(decoded)};
}

// Whether the member "signatures" is the first thing behind the bytes that are kept.
bool is_added(std::string_view behind) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t comma = behind.find_first_not_of(kSpace);
  if (comma == std::string_view::npos || behind[comma] != ',') return false;
  const std::size_t name = behind.find_first_not_of(kSpace, comma + 1);
  return name != std::string_view::npos && behind.substr(name).starts_with(kName);
}

}  // namespace

std::optional<std::string> signed_payload(std::string_view bytes) {
  if (bytes.find(kName) == std::string_view::npos) return std::nullopt;
  Result<json> signed_form = parse_json(bytes, kBounds);
  if (!signed_form) return std::nullopt;
  const json* const version = find(*signed_form, "schemaVersion");
  if (version == nullptr || *version != 1) return std::nullopt;
  const std::optional<Format> format = format_of(*signed_form);
  if (!format || format->kept > bytes.size()) return std::nullopt;
  const auto kept = static_cast<std::size_t>(format->kept);
  if (!is_added(bytes.substr(kept))) return std::nullopt;
  std::string payload = std::string(bytes.substr(0, kept)) + format->tail;
  // Whatever else the signed form holds, a reader of it must see what the payload says.
  signed_form->erase("signatures");
  const Result<json> plain = parse_json(payload, kBounds);
  if (!plain || *plain != *signed_form) return std::nullopt;
  return payload;
}

}  // namespace sluice::oci

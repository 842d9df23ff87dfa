#include "oci/error_code.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "base/log.hpp"
#include "oci/json.hpp"

namespace sluice::oci {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxCodeBytes = 64;
constexpr std::size_t kMaxMessageBytes = 1024;
// Error bodies have some ten values; the text of an error that is nested deeper says nothing to anybody.
constexpr JsonBounds kErrorBounds{.bytes = kMaxErrorBodyBytes, .depth = 16, .values = 1'000};

// One line of bounded length; `text` is UTF-8 and is not cut inside a character.
std::string one_line(std::string_view text, std::size_t limit) {
  if (text.size() > limit) {
    std::size_t end = limit;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) --end;
    text = text.substr(0, end);
  }
  std::string out(text);
  std::replace_if(
      out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  return out;
}

// A text or a number, as text; else empty.
std::string scalar(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return {};
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number_integer()) return found->dump();
  return {};
}

std::string first_of(const json& object, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (std::string text = scalar(object, key); !text.empty()) return text;
  }
  return {};
}

std::optional<RegistryError> read_error(const json& object, std::initializer_list<const char*> codes,
                                        std::initializer_list<const char*> messages) {
  if (!object.is_object()) return std::nullopt;
  RegistryError error{one_line(first_of(object, codes), kMaxCodeBytes),
                      one_line(first_of(object, messages), kMaxMessageBytes)};
  if (error.code.empty() && error.message.empty()) return std::nullopt;
  return error;
}

// Whether `text` can stand inside a JSON document as it is. nlohmann takes a zero byte for the end of its input.
bool is_json_structure(std::string_view text) {
  const bool looks_so = text.front() == '{' || text.front() == '[';
  return looks_so && text.find('\0') == std::string_view::npos && json::accept(text.begin(), text.end());
}

}  // namespace

std::string_view name(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::blob_unknown: return "BLOB_UNKNOWN";
    case ErrorCode::blob_upload_invalid: return "BLOB_UPLOAD_INVALID";
    case ErrorCode::blob_upload_unknown: return "BLOB_UPLOAD_UNKNOWN";
    case ErrorCode::digest_invalid: return "DIGEST_INVALID";
    case ErrorCode::manifest_blob_unknown: return "MANIFEST_BLOB_UNKNOWN";
    case ErrorCode::manifest_invalid: return "MANIFEST_INVALID";
    case ErrorCode::manifest_unknown: return "MANIFEST_UNKNOWN";
    case ErrorCode::name_invalid: return "NAME_INVALID";
    case ErrorCode::name_unknown: return "NAME_UNKNOWN";
    case ErrorCode::size_invalid: return "SIZE_INVALID";
    case ErrorCode::unauthorized: return "UNAUTHORIZED";
    case ErrorCode::denied: return "DENIED";
    case ErrorCode::unsupported: return "UNSUPPORTED";
    case ErrorCode::too_many_requests: return "TOOMANYREQUESTS";
    case ErrorCode::pagination_number_invalid: return "PAGINATION_NUMBER_INVALID";
    case ErrorCode::range_invalid: return "RANGE_INVALID";
    case ErrorCode::tag_invalid: return "TAG_INVALID";
    case ErrorCode::unavailable: return "UNAVAILABLE";
    case ErrorCode::unknown: break;
  }
  return "UNKNOWN";
}

std::string error_body(ErrorCode code, std::string_view message, std::string_view detail) {
  std::string out = R"({"errors":[{"code":")";
  out.append(name(code)).append(R"(","message":")");
  log::append_json_escaped(out, message);
  out += R"(","detail":)";
  if (detail.empty()) {
    out += "null";
  } else if (is_json_structure(detail)) {
    out += detail;
  } else {
    out += '"';
    log::append_json_escaped(out, detail);
    out += '"';
  }
  out += "}]}";
  return out;
}

std::optional<RegistryError> parse_error_body(std::string_view body) {
  const Result<json> parsed = parse_json(body, kErrorBounds);
  if (!parsed || !parsed->is_object()) return std::nullopt;
  const json& root = *parsed;

  if (const auto errors = root.find("errors"); errors != root.end() && errors->is_array()) {
    for (const json& entry : *errors) {
      if (auto error = read_error(entry, {"code"}, {"message", "detail"})) return error;
    }
  }
  if (const auto nested = root.find("error"); nested != root.end() && nested->is_object()) {
    // Google: {"error":{"code":403,"message":…,"status":"PERMISSION_DENIED"}}
    if (auto error = read_error(*nested, {"status", "code"}, {"message"})) return error;
  }
  // OAuth (RFC 6749 section 5.2): error, error_description. Docker Hub's token server: details. GitHub: message.
  return read_error(root, {"code", "error"}, {"message", "details", "error_description"});
}

}  // namespace sluice::oci

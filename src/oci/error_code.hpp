// The error codes of the registry API and the JSON that carries them (distribution-spec, "Error Codes").
//
// Pure functions; any thread. Which HTTP status goes with a code, and which code with an Errc, is decided in
// api/error_table.cpp alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::oci {

enum class ErrorCode : std::uint8_t {
  // distribution-spec
  blob_unknown,
  blob_upload_invalid,
  blob_upload_unknown,
  digest_invalid,
  manifest_blob_unknown,
  manifest_invalid,
  manifest_unknown,
  name_invalid,
  name_unknown,
  size_invalid,
  unauthorized,
  denied,
  unsupported,
  too_many_requests,
  // distribution's own
  pagination_number_invalid,
  range_invalid,
  tag_invalid,
  unavailable,
  unknown,
};

// As it stands on the wire: "BLOB_UNKNOWN".
std::string_view name(ErrorCode code) noexcept;

// `{"errors":[{"code":…,"message":…,"detail":…}]}`: always valid JSON in UTF-8, whatever the texts hold.
// `detail` goes in as it is when it is a JSON object or array, as a string when it is any other text, and as null when
// it is empty.
std::string error_body(ErrorCode code, std::string_view message, std::string_view detail = {});

// The first error of a registry's answer, as it wrote it. Both texts may be empty, but not both at once; they are
// valid UTF-8, of bounded length and without control characters, so that they can go into a log line.
struct RegistryError {
  std::string code;
  std::string message;

  friend bool operator==(const RegistryError&, const RegistryError&) = default;
};

// Bodies beyond this are not looked at: errors of registries have some hundred bytes.
inline constexpr std::size_t kMaxErrorBodyBytes = std::size_t{8} << 10;

// Reads `{"errors":[{"code","message"},…]}`, and the shapes that token servers and clouds use instead: code, error,
// message, details, error_description at the top, or an `error` object. Nothing when it is none of these.
std::optional<RegistryError> parse_error_body(std::string_view body);

}  // namespace sluice::oci

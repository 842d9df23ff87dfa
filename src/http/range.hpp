// The Range and If-Range fields (RFC 9110 §14). Pure functions; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::http {

// Both ends included, as on the wire.
struct ByteRange {
  std::uint64_t first = 0;
  std::uint64_t last = 0;

  [[nodiscard]] std::uint64_t size() const noexcept { return last - first + 1; }
  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

// As it was asked, before the size is known: `first-last`, `first-`, or the last `suffix` bytes.
struct RequestedRange {
  std::optional<std::uint64_t> first;
  std::optional<std::uint64_t> last;
  std::optional<std::uint64_t> suffix;  // set exactly when `first` is not

  // In a representation of that many bytes, the end clamped. Nothing where it has no byte of it.
  [[nodiscard]] std::optional<ByteRange> resolve(std::uint64_t size) const noexcept;
  friend bool operator==(const RequestedRange&, const RequestedRange&) = default;
};

struct RequestedRanges {
  enum class Kind : std::uint8_t {
    whole,     // no Range, or one to be ignored: malformed, another unit
    ranges,    // as many as `ranges` holds, in the order they were asked
    refused,   // `last` before `first`: 416, as the OCI conformance suite wants it
    too_many,  // more than kMaxRanges: 400
  };
  Kind kind = Kind::whole;
  std::vector<RequestedRange> ranges;
};

// podman and CRI-O send up to so many for a layer of zstd:chunked, and halve the list when it is answered with 400.
inline constexpr std::size_t kMaxRanges = 1024;

RequestedRanges parse_range(std::string_view header);

struct RangeSelection {
  enum class Kind : std::uint8_t {
    whole,          // 200
    partial,        // 206: `ranges` has one, or several for multipart/byteranges
    unsatisfiable,  // 416 with `Content-Range: bytes */size`
    too_many,       // 400
  };
  Kind kind = Kind::whole;
  // Not empty for `partial`; those that were asked, in their order: clients count the parts and take each for the range
  // that stands in its place (RFC 9110 §14.2 would let a server merge them).
  std::vector<ByteRange> ranges;
};

// A range of a list that has no byte in the representation is dropped; when none is left the whole is unsatisfiable. An
// empty representation is always `whole`, unless the header was refused.
RangeSelection select_ranges(const RequestedRanges& asked, std::uint64_t size);
RangeSelection parse_range(std::string_view header, std::uint64_t size);

// "bytes 0-99/1000"; "bytes */1000" for a 416.
std::string content_range(const ByteRange& range, std::uint64_t size);
std::string unsatisfied_range(std::uint64_t size);

// Whether Range counts: no If-Range, or one that is this entity tag by strong comparison (RFC 9110 §13.1.5). `etag` is
// our own, quoted; If-Range may name it without quotes, as If-None-Match may (conditional.hpp). A date never matches,
// since we send no Last-Modified that is a strong validator.
bool if_range_matches(std::string_view if_range, std::string_view etag) noexcept;

}  // namespace sluice::http

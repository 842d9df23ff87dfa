// Whether an answer is what was asked for. Pure functions; they read what strangers wrote.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "http/client_framing.hpp"
#include "oci/digest.hpp"

namespace sluice::upstream {

// Content-Range of a 206 or 416 (RFC 9110 section 14.4): "bytes 5-9/10", "bytes 5-9/*", "bytes */10".
struct ContentRange {
  std::optional<std::uint64_t> first;  // nothing when unsatisfied
  std::uint64_t last = 0;              // inclusive; meaningful with `first`
  std::optional<std::uint64_t> size;   // of the whole; nothing for *

  friend bool operator==(const ContentRange&, const ContentRange&) = default;
};

// Nothing for anything that is not exactly one of the three forms, with first <= last < size.
std::optional<ContentRange> parse_content_range(std::string_view value);

// What is asked for without a digest (a list, /v2/) must be content of a registry: no HTML page (a captive portal's, a
// load balancer's). Errors: upstream_protocol.
Result<void> check_content(const http::ReceivedHead& head);

// What is unusual about the head of a 200 or 206 to a request for content by digest (of `asked`, where there is one):
// an HTML type, a Content-Encoding, another Docker-Content-Digest. Empty where nothing is. It is no error: the bytes
// are right when they have the digest. It only makes another endpoint worth asking first.
std::string oddity(const http::ReceivedHead& head, const std::optional<oci::Digest>& asked);

// What all fields of Content-Encoding name together, in order, without `identity`: several fields are one list (RFC
// 9110 section 5.3). The views live as long as the head.
std::vector<std::string_view> codings_named(const http::ReceivedHead& head);

// Content-Type without parameters; empty when missing.
std::string media_type_of(const http::ReceivedHead& head);

// Docker-Content-Digest; nothing when missing or not a digest that we know.
std::optional<oci::Digest> digest_of(const http::ReceivedHead& head);

// Statuses of an answer with the whole content. A 203 has it as a proxy on the way has changed it (RFC 9110 section
// 15.3.4): whether it did, the digest tells.
constexpr bool is_whole(int status) noexcept { return status == 200 || status == 203; }

// Whether an answer to a GET without a Range has the whole: by its status, or as a 206 whose Content-Range covers all.
// Its length, where that is told. Errors: upstream_protocol.
Result<std::optional<std::uint64_t>> check_whole(const http::ReceivedHead& head,
                                                 std::optional<std::uint64_t> content_length);

// Where a download is: what the answer to a GET of a blob from `offset` on says.
struct Extent {
  std::uint64_t offset = 0;           // of the first byte that comes
  std::optional<std::uint64_t> size;  // of the whole blob
  std::optional<std::uint64_t> end;   // behind the last byte that comes, where that is not the blob's
};

// Errors: upstream_protocol, for another status than of the whole or 206, a 206 that is not from `offset` to the end,
// no Content-Range or one that contradicts Content-Length, and an empty body for a blob that is not empty.
Result<Extent> check_blob(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length,
                          const oci::Digest& digest, std::uint64_t offset);

// Of an answer to a Range from `first` to `last`, both included: those bytes and no others. Errors: unsupported, for
// the whole blob instead; else as above.
Result<Extent> check_blob_range(const http::ReceivedHead& head, std::optional<std::uint64_t> content_length,
                                std::uint64_t first, std::uint64_t last);

}  // namespace sluice::upstream

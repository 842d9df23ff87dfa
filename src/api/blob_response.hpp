// Answers GET and HEAD of a blob: conditionals, ranges, at rest, in flight and passed through.
//
// Threads: any loop; the tasks are awaited at once by whoever serves the exchange.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "http/exchange.hpp"
#include "http/range.hpp"
#include "pull/blob_service.hpp"

namespace sluice::api {

class BlobResponder {
 public:
  BlobResponder(pull::BlobService& service, const pull::Metrics& metrics) : service_(service), metrics_(metrics) {}

  // A blob in an answer: as it was asked for, which is what every head says, since clients compare the two; and its
  // canonical name, the same where no other is known. An entity tag of either is one of this blob.
  struct Names {
    oci::Digest asked;
    oci::Digest canonical;
    // The type of the answer; lives as long as the answer is being sent.
    std::string_view media_type = oci::media_type::kOctetStream;
    [[nodiscard]] bool are_two() const noexcept { return asked != canonical; }
    [[nodiscard]] bool matched_by(std::string_view if_none_match) const;
  };

  // Answers, and says how the cache came by it. `extra_fields` is added to the head, complete lines with CRLF.
  // An error means that nothing has been sent yet; a body that cannot be completed is broken off instead. Adds to
  // `upstream_wait` how long the body waited for upstream, while it was being sent.
  runtime::Task<Result<access::CacheResult>> respond(http::Exchange& exchange, access::Route route, oci::Digest digest,
                                                     std::string extra_fields, std::chrono::nanoseconds& upstream_wait);

 private:
  // HEAD, and a GET by a client that has the blob: what upstream says of it, and no download.
  runtime::Task<Result<access::CacheResult>> respond_stat(http::Exchange& exchange, access::Route route,
                                                          oci::Digest digest, std::string extra_fields);
  runtime::Task<void> respond_at_rest(http::Exchange& exchange, const pull::ReadyObject& object, Names names,
                                      std::string extra_fields);
  // Errors: the fill's, before anything was sent; upstream_timeout, where a range has not come `until` then.
  runtime::Task<Result<void>> respond_in_flight(http::Exchange& exchange, streamcache::Stream& stream,
                                                std::optional<std::uint64_t> size, Names names,
                                                std::chrono::steady_clock::time_point until, std::string extra_fields,
                                                std::chrono::nanoseconds& upstream_wait);
  runtime::Task<void> respond_direct(http::Exchange& exchange, pull::DirectRanges& direct, Names names,
                                     std::string extra_fields, std::chrono::nanoseconds& upstream_wait);

  pull::BlobService& service_;
  const pull::Metrics metrics_;
};

}  // namespace sluice::api

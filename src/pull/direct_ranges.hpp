// DirectRanges: ranges of a blob that is not here, fetched by themselves and passed through to one client.
//
// A lazy puller (stargz, SOCI, zstd:chunked) wants the last bytes of a layer, then its table of contents, then a chunk
// here and there. It does not wait until a fill has come that far, nor does it make the cache download gigabytes that
// nobody may want. What passes through cannot be held against the digest, so nothing of it is kept, and the client
// checks it by the means of its format; what is checked is that upstream gives those bytes of a blob of that size.
//
// Which ranges go this way is decided by PassThrough.
//
//   state    becomes                           read()                                   holds
//   fresh    open(): opened, or failed         no                                       nothing
//   opened   read(): opened, or failed         the next bytes; asks upstream again      one connection, or a short
//   range
//            where the connection broke or was given up
//
// Upstream is asked once for ranges that are nearly adjacent. Short ones are read at once, for all who ask for the same
// at the same time; longer ones stream at the client's pace. A client that takes nothing for long loses the connection
// to upstream, of which there are few, and gets another when it goes on.
//
// Owner: the answer to one request. Threads: the loop of that request, one call at a time. What is shared outlives it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "access/upstreams.hpp"
#include "base/result.hpp"
#include "http/range.hpp"
#include "oci/digest.hpp"
#include "pull/metrics.hpp"
#include "pull/resume.hpp"
#include "runtime/deadline.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task.hpp"
#include "upstream/registry.hpp"

namespace sluice::pull {

// Those that are fetched with one request: what lies between two is no more than a request costs.
[[nodiscard]] std::vector<http::ByteRange> join_neighbours(const std::vector<http::ByteRange>& ranges);

class DirectRanges {
 public:
  // What all have in common.
  struct Shared {
    TransferParams params;
    Metrics metrics;
    // Short answers, one for all who ask for the same at the same time.
    runtime::SingleFlight<std::string, std::shared_ptr<const std::string>> short_ranges;
  };

  // `ranges` of a blob of `size` bytes, in the order in which they will be read; none: nothing can be read.
  DirectRanges(Shared& shared, access::Route route, oci::Digest digest, std::uint64_t size,
               std::vector<http::ByteRange> ranges);
  DirectRanges(const DirectRanges&) = delete;
  DirectRanges& operator=(const DirectRanges&) = delete;
  ~DirectRanges();

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  [[nodiscard]] const std::vector<http::ByteRange>& ranges() const noexcept { return ranges_; }

  // Asks upstream for the first one. Errors: those of upstream::Registry::open_blob_range, and size_mismatch.
  runtime::Task<Result<void>> open();

  // What stands at `position`, which lies in one of the ranges: at least a byte, at most up to `end`, which is not
  // behind that range. Valid until the next call. Errors: as open(), once asking again has not helped.
  runtime::Task<Result<std::span<const std::byte>>> read(std::uint64_t position, std::uint64_t end);

 private:
  [[nodiscard]] const http::ByteRange& question_for(std::uint64_t position, std::uint64_t end) const;
  // `until`: whoever waits does so no longer; what is asked for a short range goes on for others.
  using Until = std::chrono::steady_clock::time_point;
  runtime::Task<Result<void>> ask(http::ByteRange question, std::uint64_t position, Until until);
  runtime::Task<Result<void>> ask_short(http::ByteRange question, Until until);
  runtime::Task<Result<void>> ask_long(http::ByteRange question, std::uint64_t position);
  [[nodiscard]] bool is_too_slow() const;
  runtime::Task<Result<std::size_t>> receive(std::uint64_t position, std::uint64_t end);

  Shared& shared_;
  const access::Route route_;
  const oci::Digest digest_;
  const std::uint64_t size_;
  const std::vector<http::ByteRange> ranges_;
  std::vector<http::ByteRange> questions_;  // what upstream is asked for; each holds one or several of the ranges

  std::optional<http::ByteRange> held_;       // the question whose answer is in short_
  std::shared_ptr<const std::string> short_;  // shared with others who asked for the same
  std::unique_ptr<upstream::BlobBody> body_;
  std::uint64_t body_at_ = 0;   // of the next byte of body_
  std::uint64_t body_end_ = 0;  // behind its last
  std::vector<std::byte> buffer_;
  std::chrono::steady_clock::time_point given_at_;  // when the client got the last bytes of body_, or it began
  std::chrono::nanoseconds taking_{0};              // how long it has taken for those of body_ in all
  std::size_t failures_ = 0;                        // in a row, without a byte in between
  std::optional<runtime::Deadline> idle_;
};

}  // namespace sluice::pull

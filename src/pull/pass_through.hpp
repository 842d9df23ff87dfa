// PassThrough: which ranges of a blob that is not here are fetched by themselves (direct_ranges.hpp), and which wait
// for a fill.
//
// Ranges of a blob of which `have` bytes can be read by now; nothing where it is not on its way:
//
//   too many to be asked for one by one                           start a fill, or wait for it
//   is on its way   far ahead of what has arrived                 pass through
//                   else                                          wait for the fill
//   is not          little of the blob has been passed through    pass through
//                   far from its beginning                        pass through, and a fill is started
//                   else                                          start a fill and wait for it
//
// Threads: all functions may be called from any loop.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "access/blob_access.hpp"
#include "access/membership_check.hpp"
#include "access/negative_cache.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/sieve_map.hpp"
#include "http/range.hpp"
#include "oci/digest.hpp"
#include "pull/direct_ranges.hpp"
#include "pull/fills.hpp"
#include "runtime/task_group.hpp"

namespace sluice::pull {

class PassThrough {
 public:
  struct Params {
    bool enabled = true;
    // How much of a blob is passed through so before it is fetched whole.
    std::uint64_t limit_bytes = 8 * 1024 * 1024;
    // What begins no further ahead of what a fill has is waited for.
    std::uint64_t ahead_bytes = 8 * 1024 * 1024;
  };

  struct Opened {
    std::unique_ptr<DirectRanges> ranges;  // never null
    std::string manifest_type;             // of what is a manifest; else empty
  };

  PassThrough(const Params& params, const TransferParams& transfer, access::BlobAccess& access,
              access::MembershipCheck& membership, Fills& fills, const Clock& clock, runtime::TaskGroup& group,
              const Metrics& metrics);
  PassThrough(const PassThrough&) = delete;
  PassThrough& operator=(const PassThrough&) = delete;
  ~PassThrough();

  // Nothing: these are for a fill. Errors: the access check's and upstream's.
  runtime::Task<Result<std::optional<Opened>>> open(access::Route route, oci::Digest digest,
                                                    http::RequestedRanges asked);

  // Upstream has told the size of a blob.
  void has_told_size(const access::Route& route) { untold_.erase(std::string(access::origin_name(route))); }

 private:
  enum class Way : std::uint8_t { fill, direct, direct_and_fill };
  struct Passed {
    std::uint64_t bytes = 0;  // of the blob, in ranges
    bool refused = false;     // upstream has answered a range with the whole
  };

  Way way_of(const std::string& key, const std::vector<http::ByteRange>& ranges, std::uint64_t size,
             std::optional<std::uint64_t> have);
  [[nodiscard]] bool is_refused(const std::string& key);
  // The size as a GET tells it: what a HEAD or a manifest has said decides no 416. Nothing where a download of the
  // whole has to tell. Errors: upstream's.
  runtime::Task<Result<std::optional<std::uint64_t>>> ask_size(access::Route route, oci::Digest digest);
  void fill_too(const runtime::Executor& executor, access::Route route, const oci::Digest& digest);
  runtime::Task<void> fetch_unasked(access::Route route, oci::Digest digest, std::shared_ptr<void> place);

  const Params params_;
  access::BlobAccess& access_;
  access::MembershipCheck& membership_;
  Fills& fills_;
  runtime::TaskGroup& group_;
  DirectRanges::Shared shared_;
  access::NegativeCache untold_;  // the upstreams that tell no sizes of blobs
  // Fills that a range has started and nobody waits for.
  const std::shared_ptr<std::atomic<std::size_t>> unasked_ = std::make_shared<std::atomic<std::size_t>>(0);
  std::mutex passed_mutex_;                       // guards passed_
  SieveMap<std::string, Passed> passed_{10'000};  // by the keys of fills
};

}  // namespace sluice::pull

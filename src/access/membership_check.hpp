// MembershipCheck: whether a client that comes by a route may have a blob, as upstream tells it.
//
// What is remembered (BlobAccess) is believed; else upstream is asked, by HEAD and, where it answers that oddly or
// tells no length, by the beginning of a GET: what it sends may be a page in place of the blob. Whoever waits for that
// looks again and again whether a fill has told it meanwhile. All of it ends by the route's answer_by. Threads: all
// functions may be called from any loop.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "access/blob_access.hpp"
#include "access/upstreams.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/single_flight.hpp"
#include "runtime/task.hpp"
#include "runtime/task_group.hpp"

namespace sluice::access {

class MembershipCheck {
 public:
  // The first bytes, at most so many, of what lies at rest under that name. Errors: not_found, io, overloaded.
  using ReadStored = std::function<runtime::Task<Result<std::string>>(oci::Digest canonical, std::size_t bytes)>;

  MembershipCheck(BlobAccess& access, ReadStored read_stored, runtime::TaskGroup& group)
      : access_(access), read_stored_(std::move(read_stored)), flights_(group) {}

  // Errors of all: upstream's (upstream::Registry::stat_blob); upstream_unreachable and its like where it is out and
  // nothing is remembered (unanswered). Of `unsupported`, which says that upstream has it, see has_without_size
  // (base/errc_kind.hpp).

  runtime::Task<Result<BlobAccess::Known>> of(Route route, oci::Digest digest);
  // The same for a blob of `size` bytes that is at rest. An upstream that does not tell how long it is, and sends what
  // begins as that does, has it all the same; it need not send it where it has said so before.
  runtime::Task<Result<BlobAccess::Known>> of_stored(Route route, oci::Digest digest, std::uint64_t size);
  // The same for a blob whose fill one joins: upstream may tell no size, of it or of the fill's answer.
  runtime::Task<Result<void>> of_joined(Route route, oci::Digest digest, std::optional<std::uint64_t> size);
  // As of(), without the words for clients. For what is asked ahead of them.
  runtime::Task<Result<BlobAccess::Known>> ask(Route route, oci::Digest digest);
  // `known`, with upstream's word on the size where only a manifest has told it.
  runtime::Task<Result<BlobAccess::Known>> with_size(Route route, oci::Digest digest, BlobAccess::Known known);
  // Whether upstream begins to send the blob, of that size where it is known. That download is let go.
  runtime::Task<bool> gives_out(Route route, oci::Digest digest, std::optional<std::uint64_t> size = std::nullopt);
  // Upstream has just said that it does not have it: what it said before counts no more.
  runtime::Task<void> note_unknown(Route route, oci::Digest digest);

 private:
  std::optional<BlobAccess::Known> peek(const Route& route, const oci::Digest& digest);
  std::optional<Result<BlobAccess::Known>> look(const Route& route, const oci::Digest& digest);
  runtime::Task<Result<BlobAccess::Known>> ask_anew(Route route, oci::Digest digest);
  runtime::Task<Result<BlobAccess::Known>> learn(Route route, oci::Digest digest);
  runtime::Task<bool> sends_stored(Route route, oci::Digest digest, std::uint64_t size);
  runtime::Task<Result<bool>> compare_beginnings(Route route, oci::Digest digest, std::uint64_t size);

  BlobAccess& access_;
  const ReadStored read_stored_;
  runtime::SingleFlight<std::string, bool> flights_;
};

}  // namespace sluice::access

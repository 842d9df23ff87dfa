// MembershipCheck: whether a client that comes by a route may have a blob, as upstream tells it.
//
// What is remembered (BlobAccess) is believed; else upstream is asked, by HEAD and, where it answers that oddly, by the
// beginning of a GET. Whoever waits for that looks again and again whether a fill has told it meanwhile. All of it ends
// by the route's answer_by. Threads: all functions may be called from any loop.
#pragma once

#include <cstdint>
#include <optional>

#include "access/blob_access.hpp"
#include "access/upstreams.hpp"
#include "base/result.hpp"
#include "oci/digest.hpp"
#include "runtime/task.hpp"

namespace sluice::access {

class MembershipCheck {
 public:
  explicit MembershipCheck(BlobAccess& access) : access_(access) {}

  // Errors of all: upstream's (upstream::Registry::stat_blob); upstream_unreachable and its like where it is out and
  // nothing is remembered (unanswered). Of `unsupported`, which says that upstream has it, see has_without_size
  // (base/errc_kind.hpp).

  runtime::Task<Result<BlobAccess::Known>> of(Route route, oci::Digest digest);
  // The same for a blob of `size` bytes that is at rest. An upstream that does not tell how long it is, and begins to
  // send it, has it all the same.
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

  BlobAccess& access_;
};

}  // namespace sluice::access

// Registry: one upstream registry, as the proxy sees it. Answers have been checked as far as they can be: a manifest
// against its digest, a download's position and length against what was asked.
//
// Threads: a Registry may be asked from tasks on any loop. What it hands out (BlobBody) stays on the loop that asked
// and is destroyed there, or after that loop has stopped. Cancelling the asking task, or destroying the BlobBody,
// closes the connection. All tasks must have ended before the Registry is destroyed.
//
// Errors, of all functions:
//   unauthorized          401 that our credentials, or having none, did not mend
//   denied                403
//   throttled             429; `retry_after` is set where upstream said so
//   blob_unknown, manifest_unknown, name_unknown
//                         404; by upstream's own error code, else by what was asked for
//   upstream_failed       5xx, after retries
//   upstream_unreachable  name resolution, connect or TLS failed, or the connection broke
//   upstream_timeout      no connection, no headers or no bytes for too long
//   upstream_protocol     an answer that breaks HTTP or is not what was asked for
//   upstream_down         it did not answer a moment ago, and was not asked again
//   overloaded            no connection to that host became free in time
//   cancelled             the asking task was cancelled
// Messages name the upstream's host, the method, the path and the status; never a query string or a secret.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/network.hpp"
#include "base/result.hpp"
#include "base/rights.hpp"
#include "oci/descriptor.hpp"
#include "oci/digest.hpp"
#include "oci/name.hpp"
#include "runtime/task.hpp"

namespace sluice::upstream {

class Urgency;

struct ManifestAnswer {
  // What `body` has: the digest that was asked for; for a tag the one that upstream names, else the sha256. Of a signed
  // docker schema 1 manifest it may be the digest of the payload without the signatures (oci::signed_payload).
  oci::Digest digest;
  // Content-Type without parameters; empty when upstream sent none. May be generic: oci::served_type decides.
  std::string media_type;
  // The exact bytes, at most oci::kMaxManifestBytes, never empty.
  std::string body;
  // `digest` was asked for, or named by the head, and the body has it. Else it is only what was computed of the body.
  bool has_named_digest = false;
};

struct ManifestHead {
  std::optional<oci::Digest> digest;  // Docker-Content-Digest, where there was a valid one
  std::optional<std::uint64_t> size;  // Content-Length, where there was one
  std::string media_type;             // as in ManifestAnswer
  // Where it took a GET to find out. Else null.
  std::shared_ptr<const ManifestAnswer> whole = nullptr;
};

// One page of a list: tags, referrers.
struct ListAnswer {
  std::string body;               // JSON, as far as its Content-Type says so; not looked into; bounded as below
  std::string media_type;         // as in ManifestAnswer
  std::string next;               // what to ask for to get the next page (Link, RFC 8288); empty: this was the last one
  bool next_is_unusable = false;  // there is a next page, and nothing to ask for it by
};
// Some registries give all tags at once. Lists beyond the second number are read two at a time for each upstream.
inline constexpr std::size_t kMaxTagListBytes = std::size_t{64} << 20;
inline constexpr std::size_t kMaxListBytes = std::size_t{8} << 20;

// Ranges of a blob up to this size come within the time of a request, as a whole.
inline constexpr std::uint64_t kShortRangeBytes = 64 * 1024;

// A running download of a blob.
//
//   state   | read      | size, offset, media_type | destroy
//   running | yes       | yes                      | closes the connection
//   ended   | 0 again   | yes                      | returns the connection to the pool
//   failed  | error     | yes                      | closes the connection
class BlobBody {
 public:
  virtual ~BlobBody() = default;

  // The size of the whole blob, where known: from Content-Length, or from Content-Range when resumed.
  [[nodiscard]] virtual std::optional<std::uint64_t> size() const = 0;
  // Where in the blob the first byte read lies: what was asked for, or 0 when upstream ignored the Range.
  [[nodiscard]] virtual std::uint64_t offset() const = 0;
  // Content-Type without parameters; may be empty. Lives as long as this object.
  [[nodiscard]] virtual std::string_view media_type() const = 0;

  // The bytes come from another server than the registry, to which it has redirected us.
  [[nodiscard]] virtual bool is_redirected() const { return false; }
  // Others wait for a connection to that upstream, and for this one to end.
  [[nodiscard]] virtual bool is_wanted() const { return false; }
  // Whether the bytes are the blob, or stand for it in a coding, was only guessed (encoded_body.hpp). None of them
  // should reach a client before all of them have the digest.
  [[nodiscard]] virtual bool is_guess() const { return false; }

  // Suspends until there are bytes: returns how many were put at the front of `into` (which must not be empty and must
  // stay until then), or 0 at the proper end. Not verified against the digest: whoever reads the whole does that.
  //
  // Errors: upstream_unreachable, the connection broke or was closed before the announced length: worth resuming with
  // open_blob at offset() plus what was read. upstream_timeout, nothing came for the stall time-out: likewise.
  // upstream_protocol, a broken chunk; size_mismatch, more bytes than announced: do not trust what was read.
  virtual runtime::Task<Result<std::size_t>> read(std::span<std::byte> into) = 0;
};

// The client for whom upstream is asked.
struct Asker {
  // What its request's Via says, which goes on upstream in front of our own entry (RFC 9110 section 7.6.3); may be
  // empty.
  std::string via = {};
  // As in IpAddress::client_key: clients take turns where requests have to wait. `::`: it is for nobody.
  IpAddress address = {};
};

class Registry {
 public:
  virtual ~Registry() = default;

  // The upstream's name in the configuration: "docker.io". Lives as long as this object.
  [[nodiscard]] virtual std::string_view name() const = 0;

  // Whether `repository` has the blob, and its size; downloads no body. A HEAD is a hint: where it comes to anything
  // but a 200 with a length that the blob can have, a ranged GET of one byte decides. The size is always known. The
  // descriptor's digest is the one asked for, or, where upstream calls the blob by another algorithm's, that one: its
  // word, which nothing has verified. Errors: also unsupported, where upstream has the blob (the GET was answered with
  // the beginning of it) and does not tell its size.
  virtual runtime::Task<Result<oci::Descriptor>> stat_blob(oci::Repository repository, oci::Digest digest) = 0;

  // Starts a download at `offset`; returns when the headers are there. range_invalid when upstream has no byte there.
  virtual runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob(oci::Repository repository, oci::Digest digest,
                                                                     std::uint64_t offset) = 0;

  // Those bytes alone, `first` to `last`, both included; `size()` of the body is that of the blob. No byte of them can
  // be held against the digest. Errors: also range_invalid, as above; unsupported, from an upstream that answers a
  // Range with the whole, and from a Registry that cannot do that.
  virtual runtime::Task<Result<std::unique_ptr<BlobBody>>> open_blob_range(oci::Repository repository,
                                                                           oci::Digest digest, std::uint64_t first,
                                                                           std::uint64_t last);

  // `accept` is the Accept value; empty means oci::manifest_accept(). digest_mismatch when the body does not have the
  // digest of `reference`; upstream_protocol when the body of a tag is not JSON, or does not have the digest that its
  // head says and is another one when it is asked for again.
  virtual runtime::Task<Result<ManifestAnswer>> get_manifest(oci::Repository repository, oci::Reference reference,
                                                             std::string accept) = 0;

  // As get_manifest, by HEAD. Where that comes to anything but a 200 with a length and, for a tag, a digest, by GET.
  virtual runtime::Task<Result<ManifestHead>> stat_manifest(oci::Repository repository, oci::Reference reference,
                                                            std::string accept) = 0;

  // `GET /v2/<repository>/<what>`, with `what` "tags/list?n=100" or "referrers/<digest>", or a `next` of before. A 404
  // is manifest_unknown or name_unknown. A Link is followed at this upstream's own address, whatever host it names.
  // Errors: also `unsupported`, from a Registry that does not list; `overloaded`, with too many large ones at once.
  virtual runtime::Task<Result<ListAnswer>> list(oci::Repository repository, std::string what);

  // Whether upstream answers `GET /v2/` like a registry: 200, or 401 with a challenge.
  virtual runtime::Task<Result<void>> ping() = 0;

  // For blobs that upstream sends in a coding that was not asked for (encoded_body.hpp): a manifest has named the blob
  // with that size; and, a whole download did not have the digest. Neither is taken for granted.
  virtual void note_claimed_size(const oci::Digest& digest, std::uint64_t size_bytes);
  virtual void note_mismatch(const oci::Digest& digest);

  // The same upstream, asked with the Authorization that a client has sent (or with none, when it is empty) in place of
  // credentials of ours. That goes to upstream itself and to nobody else, redirects and realms included. A 401 is
  // handed on: an error with upstream's challenges, also from ping(). Null from a Registry that cannot do that.
  [[nodiscard]] virtual std::shared_ptr<Registry> on_behalf_of(std::string authorization);

  // The same upstream, whose downloads and questions about blobs come behind all other requests until `urgency` is
  // raised, and the latter then with the questions of others. One `urgency` for each. Null from a Registry
  // that cannot do that, or is not to be asked without need.
  [[nodiscard]] virtual std::shared_ptr<Registry> behind_others(std::shared_ptr<Urgency> urgency);

  // With whose credentials it asks about that repository. Where it cannot tell, those of a client: nobody else is given
  // what it fetches.
  [[nodiscard]] virtual Rights rights(const oci::Repository& repository) const;

  // For how long it has asked not to be asked for that manifest again (Retry-After of a 429); zero where it has not.
  [[nodiscard]] virtual std::chrono::milliseconds throttled_for(const oci::Repository& repository,
                                                                const oci::Reference& reference) const;

  // The same upstream, asked for that client. Null from a Registry that asks nobody.
  [[nodiscard]] virtual std::shared_ptr<Registry> asking_for(Asker asker);
};

}  // namespace sluice::upstream

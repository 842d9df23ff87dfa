// ManifestService: manifests by digest from the store or upstream, by tag through the tag table.
//
//   a tag's record   age < ttl        believed
//                    older            one HEAD upstream for all who ask: the same digest renews it, another replaces it
//                    upstream is out  served stale, for at most `stale_for` beyond its ttl
//                    it has said 429  served stale at once, to all but the one who waits for its Retry-After
//                    401, 403, 404    upstream's answer is the answer
//
// The digest decides: a manifest is served as it is, whatever the parser makes of it, with the type that upstream's
// Content-Type names, else its own (oci::served_type). Parsing only tells what it refers to. A HEAD is a hint: where it
// names a digest that upstream does not give out, or one that is not here or of another type than before, the tag is
// settled by a GET; where that says something else than the HEAD, the tag is asked for by GET for a while.
//
// Upstream is always asked with the whole list of manifest types, so that it neither refuses nor converts. A client
// that does not take what a tag then is gets the tag asked for once more with what it does take; what comes has a
// record of its own (tag_records.hpp). What is none of the six types has one form, which everybody gets.
//
// Threads: all functions may be called from any loop. The task group must be empty before this is destroyed.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "access/blob_access.hpp"
#include "access/cache_result.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "oci/manifest.hpp"
#include "oci/media_type.hpp"
#include "pull/metrics.hpp"
#include "pull/ready_object.hpp"
#include "pull/stored_manifests.hpp"
#include "pull/tag_records.hpp"
#include "runtime/disk_pool.hpp"
#include "runtime/single_flight.hpp"
#include "store/blob_store.hpp"

namespace sluice::pull {

class ManifestService {
 public:
  struct Params {
    std::uint64_t memory_bytes = 64 * 1024 * 1024;
    std::chrono::milliseconds tag_ttl{60'000};
    std::chrono::milliseconds stale_for{0};  // 0: for ever
    access::NegativeCache::Params negative;
  };

  struct Opened {
    access::CacheResult result = access::CacheResult::none;
    std::shared_ptr<const ReadyObject> object;  // only its head when it was opened for a HEAD
    oci::Digest digest;
    oci::Digest stored_as = {};  // under which an open file of the object lies in the store
  };

  // Large manifests are parsed on `pool`.
  ManifestService(Params params, access::BlobAccess& access, store::BlobStore& store, runtime::DiskPool& pool,
                  const Clock& clock, runtime::TaskGroup& group, const Metrics& metrics);

  // `head_only`: the bytes are not needed, so none are fetched for it.
  // Errors: those of upstream::Registry::get_manifest; manifest_invalid for what is no manifest.
  // The bytes are in memory.
  runtime::Task<Result<Opened>> open(access::Route route, oci::Reference reference, oci::Accept accept, bool head_only);
  // The same, to be sent to a client: a large manifest that is stored is an open file.
  runtime::Task<Result<Opened>> open_to_send(access::Route route, oci::Reference reference, oci::Accept accept,
                                             bool head_only);

  // What open_to_send() would answer from memory now, with CacheResult::hit; nothing where it would do anything else.
  // Counts nothing; notes the use of a file that is open.
  [[nodiscard]] std::optional<ReadyHit> peek(const access::Route& route, const oci::Reference& reference,
                                             const oci::Accept& accept);

  // Forgets what the tag was, whoever asks; false where it was not known. What is on its way is not remembered.
  bool forget_tag(const descriptors::Scope& scope, std::string_view tag) { return tags_.forget(scope, tag); }

  // Whoever relies on that tag does so for no longer than `age`: where it was compared with upstream before that, the
  // next open() compares it. Whether that is so.
  bool doubt_tag(const access::Route& route, const oci::Tag& tag, std::chrono::milliseconds age) {
    return tags_.doubt(route, tag, age);
  }

  // What is kept here of tags of any upstream and is no record: an upstream's rights have changed. Any thread.
  void forget_upstream() { misleading_.clear(); }

  // Lets go of what is in memory of a manifest that is at rest no longer. Any thread.
  void forget(const oci::Digest& digest) { stored_.forget(digest); }

 private:
  using Object = StoredManifests::Object;
  struct Found {
    Object object;
    oci::Digest digest;
  };

  // Either form.
  runtime::Task<Result<Opened>> open_any(access::Route route, oci::Reference reference, oci::Accept accept,
                                         bool head_only);
  runtime::Task<std::optional<Opened>> open_known(access::Route route, descriptors::Entry known, oci::Digest digest,
                                                  bool head_only, access::CacheResult result);
  runtime::Task<Result<Opened>> open_digest(access::Route route, oci::Digest digest, bool head_only);
  runtime::Task<Result<Opened>> open_tag(access::Route route, oci::Tag tag, oci::ManifestClass accept_class,
                                         bool head_only);
  runtime::Task<Result<Opened>> open_tag_once(access::Route route, oci::Tag tag, oci::ManifestClass accept_class,
                                              bool head_only);
  runtime::Task<Result<Opened>> settle_tag(access::Route route, oci::Tag tag, oci::ManifestClass accept_class);
  void distrust_heads(const descriptors::Scope& scope, const oci::Digest& digest);
  runtime::Task<Result<Found>> ask_tag(access::Route route, oci::Tag tag, oci::ManifestClass accept_class,
                                       bool head_only, std::optional<store::TagRecord> seen);
  [[nodiscard]] bool may_have_moved_to(const access::Route& route, const store::TagRecord& record, const Found& found);
  [[nodiscard]] bool is_here(const access::Route& route, const oci::Digest& digest);
  bool peek_tag(const access::Route& route, const oci::Tag& tag, ReadyHit& hit);
  bool peek_digest(const access::Route& route, const oci::Digest& digest, ReadyHit& hit);

  runtime::Task<void> remember_references(access::Route route, oci::ManifestInfo info,
                                          const access::Revocations::Ticket& ticket);
  runtime::Task<Result<Found>> fetch(access::Route route, oci::Reference reference, std::string accept);
  runtime::Task<Result<Found>> keep(access::Route route, oci::Reference reference, upstream::ManifestAnswer answer,
                                    const access::Revocations::Ticket& ticket);
  runtime::Task<Result<Found>> ask_head(access::Route route, oci::Reference reference, std::string accept);
  runtime::Task<Result<Found>> fetch_shared(access::Route route, oci::Reference reference,
                                            oci::ManifestClass accept_class, bool head_only,
                                            std::optional<store::TagRecord> seen = std::nullopt);
  runtime::Task<std::optional<Opened>> stale_while_throttled(access::Route route, oci::Tag tag, store::TagRecord record,
                                                             bool head_only);
  runtime::Task<Result<Opened>> stale_or(access::Route route, store::TagRecord record, Error error, bool head_only);

  const Params params_;
  access::BlobAccess& access_;
  store::BlobStore& store_;
  runtime::DiskPool& pool_;
  const Clock& clock_;
  const Metrics metrics_;
  TagRecords tags_;
  StoredManifests stored_;
  access::NegativeCache negative_;
  access::NegativeCache misleading_;  // tags whose HEAD has named something else than their GET gives
  runtime::SingleFlight<std::string, Found> flights_;
};

}  // namespace sluice::pull

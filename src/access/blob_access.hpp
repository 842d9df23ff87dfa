// Who may see what: whether upstream has said that a repository has a blob or a manifest, and what it is.
//
// The chain front (memory, Redis, or none) -> catalog -> upstream HEAD, each joint a CachedBlobStatter. Upstream's
// answer is remembered for that repository alone, and believed for `ttl`:
//
//   younger than ttl, or no ttl   believed, nobody is asked
//   older                         one HEAD upstream for all who ask, and they wait for it
//     it has it                   believed for another ttl
//     401, 403, 404               taken back, and upstream's answer is the answer
//     an outage (errc_kind.hpp)   believed all the same; upstream is not asked this question again for `retry_pause`
//     anything else               the answer: neither an odd answer nor our own overload is a reason to believe it
//   undated (by distribution)     believed, and counts from now on
//
// A manifest's word. A registry need not check that a repository has what its manifests name, so whoever may push to
// some repository could name blobs of another one there. What only a manifest says is kept apart, and believed where
// every client may read all that the cache may read of that upstream (Route::equal_rights): there is nothing to gain
// then. Elsewhere upstream is asked about each blob. The size that it tells is a claim: upstream is asked, once, before
// it decides an answer.
//
// "Unknown" is remembered for a short time.
//
// Two names of one content. A blob that is asked for by sha512 or sha384 lies in the store under its sha256, the
// canonical name. That a digest has this canonical one is believed only when both were computed of the same bytes here;
// it stands in the catalog's global scope, where nobody else writes. What Redis or upstream say of it is a claim, and
// worth a look at the bytes that are here.
//
// Threads: all functions may be called from any loop.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "access/negative_cache.hpp"
#include "access/revocations.hpp"
#include "access/upstreams.hpp"
#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "base/recurring_log.hpp"
#include "base/sieve_map.hpp"
#include "base/version.hpp"
#include "descriptors/cached_blob_statter.hpp"
#include "descriptors/descriptor_service.hpp"
#include "oci/descriptor.hpp"
#include "runtime/single_flight.hpp"
#include "store/catalog_descriptor_service.hpp"
#include "upstream/urgencies.hpp"

namespace sluice::access {

class BlobAccess {
 public:
  struct Params {
    std::string front_name = "memory";  // the `provider` label of the first joint
    NegativeCache::Params negative;
    // How long upstream's word is believed; 0: for ever.
    std::chrono::milliseconds ttl{0};
    // How long after an outage upstream is not asked the same again.
    std::chrono::milliseconds retry_pause{30'000};
  };

  // Upstream's HEADs run in `group`, one for all who wait.
  BlobAccess(Params params, descriptors::BlobDescriptorCacheProvider& front, store::CatalogDescriptorService& catalog,
             const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry);

  // What is known without suspending and may be believed; counted only when it is a hit, since stat() counts the rest.
  [[nodiscard]] std::optional<descriptors::Entry> peek(const descriptors::Scope& scope, const oci::Digest& digest);

  // The same for who comes with that route.
  [[nodiscard]] std::optional<descriptors::Entry> peek(const Route& route, const oci::Digest& digest) {
    return is_over(route) ? std::nullopt : peek(route.scope, digest);
  }

  // The same, not counted, for answers that are given again (ready_way.hpp).
  struct Lasting {
    descriptors::Entry entry;
    Clock::Wall until;     // then it is to be looked at again
    Version::Watch watch;  // over when anything is remembered or forgotten of the digest
  };
  [[nodiscard]] std::optional<Lasting> peek_lasting(const descriptors::Scope& scope, const oci::Digest& digest);
  void count_peek() { front_tracker_.count_peek(); }

  // What front or catalog know, whatever its age; blob_unknown where upstream would have to be asked.
  runtime::Task<Result<descriptors::Entry>> stat_known(descriptors::Scope scope, oci::Digest digest);

  struct Known {
    // Of the digest that was asked for.
    oci::Descriptor descriptor;
    bool asked_upstream = false;
    // Older than its ttl, and upstream could not be asked.
    bool stale = false;
    // What a cache says is the canonical digest of this one, where that is not known here.
    std::optional<oci::Digest> claimed = {};
  };
  // What anybody knows: upstream is asked when the caches do not.
  // Errors: those of upstream::Registry::stat_blob.
  runtime::Task<Result<Known>> stat(Route route, oci::Digest digest);

  // Upstream's own word on what only a manifest has named so far, and the size: a manifest's is a claim. Errors: as
  // stat.
  runtime::Task<Result<Known>> ask_first(Route route, oci::Digest digest);

  // Upstream has once said of itself, and not taken back, that the repository has it; however long ago.
  [[nodiscard]] bool was_allowed(const Route& route, const oci::Digest& digest) const {
    const auto known = is_over(route) ? std::nullopt : catalog_.peek(route.scope, digest);
    return known && believes(route, *known);
  }
  // Whether what is known lets a client with that route in.
  [[nodiscard]] static bool believes(const Route& route, const descriptors::Entry& entry);

  // How long the blob is that lies at rest, or arrives, for clients of that route; nothing where there is none. If
  // upstream tells another length, its answer is about something else: it counts as an odd answer and lets nobody in.
  // Set before anything is asked; what it refers to lives until the last question has been answered. Called on any
  // loop.
  using Sizes = std::function<std::optional<std::uint64_t>(const Route& route, const oci::Digest& digest)>;
  void expect(Sizes sizes) { sizes_ = std::move(sizes); }

  // Upstream alone; not remembered. With a route that has an `urgency` it is asked behind all others, until somebody
  // asks the same; that it gave no answer is `overloaded` then, since an outage shows in what was waited for.
  runtime::Task<Result<oci::Descriptor>> ask_upstream(Route route, oci::Digest digest);

  // Before upstream is asked with that route. Nothing is remembered for it where the rights with which the route was
  // found are over.
  [[nodiscard]] Revocations::Ticket begin(const Route& route) { return revocations_.begin(is_over(route)); }

  // Upstream has said so, in an answer for that very repository, to a question that was put after `ticket` was taken.
  // Nothing is remembered that was forgotten since.
  // `stored_as`: the name under which the bytes of a manifest lie, where that was found out just now (stored_name).
  runtime::Task<void> remember(descriptors::Scope scope, oci::Descriptor descriptor, const Revocations::Ticket& ticket,
                               std::optional<oci::Digest> stored_as = std::nullopt);

  // A manifest of that repository names it; where upstream's own word is known that stands.
  runtime::Task<void> remember_named(descriptors::Scope scope, oci::Descriptor descriptor,
                                     const Revocations::Ticket& ticket);

  // Upstream has begun to send that blob for that very repository, and tells no size that remember() could take.
  // Believed for ttl, and not for long.
  void remember_given(const descriptors::Scope& scope, const oci::Digest& digest, const Revocations::Ticket& ticket);
  [[nodiscard]] bool is_given(const Route& route, const oci::Digest& digest);

  // --- For whoever revalidates by another question than HEAD of the blob.

  [[nodiscard]] bool is_fresh(const descriptors::Entry& entry) const;
  // Upstream was out a moment ago, when it was asked this very thing: what is known is believed whatever its age.
  [[nodiscard]] bool pauses(const descriptors::Scope& scope, const oci::Digest& digest);
  // Upstream was asked about an entry that is older than its ttl, and `error` is what came: true where the entry is
  // believed all the same, else upstream's verdict has taken it back.
  runtime::Task<bool> outlives(Route route, oci::Digest digest, Error error);

  // --- Names.

  // The name under which the bytes of `digest` lie in the store; itself where no other is known.
  [[nodiscard]] oci::Digest canonical(const oci::Digest& digest) const;
  // The name under which the bytes of that repository's manifest lie in the store. A signed docker schema 1 manifest
  // has the digest of its payload, and lies under the sha256 of all its bytes. That is this repository's own: what
  // others have under the same digest may have other signatures, or none.
  [[nodiscard]] oci::Digest stored_name(const descriptors::Scope& scope, const oci::Digest& digest) const;
  // What the upstream of that route has lately said that it is; nothing for a sha256.
  [[nodiscard]] std::optional<oci::Digest> claimed(const Route& route, const oci::Digest& digest);
  // Both were computed of the same bytes. `size` in bytes.
  void set_canonical(const oci::Digest& digest, const oci::Digest& canonical, std::uint64_t size);

  // What is remembered of it for that repository is taken back, and what is on its way is not remembered. Errors: those
  // of a front that could not be told; the rest is as it was.
  runtime::Task<Result<void>> forget(descriptors::Scope scope, oci::Digest digest);
  // What is kept outside of the catalog of that upstream's repositories is forgotten, and what is on its way is not
  // remembered. While no loop runs a handler. What others share (Redis) tells by itself which rights it is of.
  void forget_upstream(std::string_view name);
  // No repository has it any more.
  runtime::Task<void> forget_globally(oci::Digest digest);
  [[nodiscard]] Revocations& revocations() noexcept { return revocations_; }
  // Whether a repository's word on a blob was taken back since the ticket was taken.
  [[nodiscard]] bool revoked(const Revocations::Ticket& ticket, const descriptors::Scope& scope,
                             const oci::Digest& digest) const;
  // Whether it was because somebody has taken it out, and not because the upstream's rights have changed.
  [[nodiscard]] bool removed(const Revocations::Ticket& ticket, const descriptors::Scope& scope,
                             const oci::Digest& digest) const;

  // Upstream has said that it is not there.
  void remember_unknown(const Route& route, const oci::Digest& digest);
  [[nodiscard]] bool known_unknown(const descriptors::Scope& scope, const oci::Digest& digest);

 private:
  class UpstreamStatter;
  struct Views {
    std::shared_ptr<descriptors::BlobDescriptorService> front;
    std::shared_ptr<descriptors::BlobDescriptorService> catalog;
  };

  [[nodiscard]] Result<Views> views(const descriptors::Scope& scope);
  runtime::Task<void> date(const Views& in, oci::Digest digest, descriptors::Entry& entry);
  runtime::Task<Result<Known>> ask_alone(Route route, oci::Digest digest);
  runtime::Task<Result<Known>> revalidate(Route route, oci::Digest digest, Known stale);
  runtime::Task<Result<void>> drop(descriptors::Scope scope, oci::Digest digest);
  [[nodiscard]] Known known(const oci::Digest& digest, descriptors::Entry entry) const;

  const std::chrono::milliseconds ttl_;
  const Clock& clock_;
  descriptors::BlobDescriptorCacheProvider& front_;
  store::CatalogDescriptorService& catalog_;
  descriptors::Tracker front_tracker_;
  descriptors::Tracker catalog_tracker_;
  metrics::Counter& renewed_;
  metrics::Counter& revoked_;
  metrics::Counter& stale_;
  NegativeCache negative_;
  NegativeCache pauses_;  // by repository and digest; by repository alone, once it was logged
  NegativeCache given_;
  Revocations revocations_;
  Versions versions_;          // of what the front says, by digest
  upstream::Urgencies ahead_;  // of questions that nobody waits for, by the keys of their flights
  runtime::SingleFlight<std::string, oci::Descriptor> flights_;
  Sizes sizes_;
  RecurringLog log_;
  std::mutex claims_mutex_;                          // guards claims_
  SieveMap<std::string, oci::Digest> claims_{1000};  // by upstream and digest
};

}  // namespace sluice::access

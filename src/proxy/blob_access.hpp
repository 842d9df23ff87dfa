// Who may see what: whether upstream has said that a repository has a blob or a manifest, and what it is.
//
// The chain front (memory, Redis, or none) -> catalog -> upstream HEAD, each joint a CachedBlobStatter. Upstream's
// answer is remembered for that repository alone; that it is down takes nothing back. "Unknown" is remembered for a
// short time.
//
// Threads: all functions may be called from any loop.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.hpp"
#include "base/metrics.hpp"
#include "descriptors/cached_blob_statter.hpp"
#include "descriptors/descriptor_service.hpp"
#include "oci/descriptor.hpp"
#include "proxy/negative_cache.hpp"
#include "proxy/revocations.hpp"
#include "proxy/upstreams.hpp"
#include "runtime/single_flight.hpp"
#include "store/catalog_descriptor_service.hpp"

namespace sluice::proxy {

// Whether an error is upstream's word on what a repository has or may see, which says nothing about another repository.
bool is_verdict(Errc code) noexcept;

class BlobAccess {
 public:
  struct Params {
    std::string front_name = "memory";  // the `provider` label of the first joint
    NegativeCache::Params negative;
  };

  // Upstream's HEADs run in `group`, one for all who wait.
  BlobAccess(Params params, descriptors::BlobDescriptorCacheProvider& front, store::CatalogDescriptorService& catalog,
             const Clock& clock, runtime::TaskGroup& group, metrics::Registry& registry);

  // What is known without suspending; counted only when it is a hit, since stat() counts the rest.
  [[nodiscard]] std::optional<oci::Descriptor> peek(const descriptors::Scope& scope, const oci::Digest& digest);

  // What front or catalog know; blob_unknown where upstream would have to be asked.
  runtime::Task<Result<oci::Descriptor>> stat_known(descriptors::Scope scope, oci::Digest digest);

  struct Known {
    oci::Descriptor descriptor;
    bool asked_upstream = false;
  };
  // What anybody knows: upstream is asked when the caches do not.
  // Errors: those of upstream::Registry::stat_blob.
  runtime::Task<Result<Known>> stat(Route route, oci::Digest digest);

  // Upstream alone; not remembered.
  runtime::Task<Result<oci::Descriptor>> ask_upstream(Route route, oci::Digest digest);

  // Upstream has said so, in an answer for that very repository, to a question that was put after `ticket` was taken.
  // Nothing is remembered that was forgotten since.
  runtime::Task<void> remember(descriptors::Scope scope, oci::Descriptor descriptor, const Revocations::Ticket& ticket);

  // What is remembered of it for that repository is taken back, and what is on its way is not remembered. Errors: those
  // of a front that could not be told; the rest is as it was.
  runtime::Task<Result<void>> forget(descriptors::Scope scope, oci::Digest digest);
  // No repository has it any more.
  runtime::Task<void> forget_globally(oci::Digest digest);
  [[nodiscard]] Revocations& revocations() noexcept { return revocations_; }
  // Whether a repository's word on a blob was taken back since the ticket was taken.
  [[nodiscard]] bool revoked(const Revocations::Ticket& ticket, const descriptors::Scope& scope,
                             const oci::Digest& digest) const;

  // Upstream has said that it is not there.
  void remember_unknown(const descriptors::Scope& scope, const oci::Digest& digest);
  [[nodiscard]] bool known_unknown(const descriptors::Scope& scope, const oci::Digest& digest);

 private:
  class UpstreamStatter;

  runtime::Task<Result<void>> drop(descriptors::Scope scope, oci::Digest digest);

  descriptors::BlobDescriptorCacheProvider& front_;
  store::CatalogDescriptorService& catalog_;
  descriptors::Tracker front_tracker_;
  descriptors::Tracker catalog_tracker_;
  NegativeCache negative_;
  Revocations revocations_;
  runtime::SingleFlight<std::string, oci::Descriptor> flights_;
};

}  // namespace sluice::proxy

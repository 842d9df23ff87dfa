#include "descriptors/cached_blob_statter.hpp"

#include <string>
#include <utility>

#include <fmt/format.h>

#include "base/log.hpp"

namespace sluice::descriptors {
namespace {

metrics::Labels labels(std::string_view provider, std::string_view joint) {
  return {{"provider", std::string(provider)}, {"joint", std::string(joint)}};
}

// A cache that is out of reach has said so itself, once, and not for each request.
void log_unless_set(const oci::Digest& digest, const Result<void>& set) {
  if (set || set.error().code == Errc::overloaded) return;
  log::error("descriptors",
             fmt::format("cannot add {} to the descriptor cache: {}", digest.to_string(), set.error().message));
}

}  // namespace

Tracker::Tracker(metrics::Registry& registry, std::string_view provider, std::string_view joint)
    : requests(registry.counter("sluice_descriptor_cache_requests_total", "Look-ups in a descriptor cache",
                                labels(provider, joint))),
      hits(registry.counter("sluice_descriptor_cache_hits_total", "Look-ups that a descriptor cache answered",
                            labels(provider, joint))),
      misses(registry.counter("sluice_descriptor_cache_misses_total",
                              "Look-ups that a descriptor cache could not answer", labels(provider, joint))),
      errors(registry.counter("sluice_descriptor_cache_errors_total", "Look-ups in which a descriptor cache failed",
                              labels(provider, joint))) {}

CachedBlobStatter::CachedBlobStatter(std::shared_ptr<BlobDescriptorService> cache,
                                     std::shared_ptr<BlobDescriptorService> backend, Tracker* tracker,
                                     FirstHand first_hand)
    : cache_(std::move(cache)), backend_(std::move(backend)), tracker_(tracker), first_hand_(std::move(first_hand)) {}

runtime::Task<Result<Entry>> CachedBlobStatter::stat(oci::Digest digest) {
  if (tracker_ != nullptr) tracker_->requests.add();
  Result<Entry> cached = co_await cache_->stat(digest);
  if (cached) {
    if (tracker_ != nullptr) tracker_->hits.add();
    co_return cached;
  }

  Result<Entry> found = co_await backend_->stat(digest);
  if (!found) co_return found;

  if (cached.error().code != Errc::blob_unknown) {
    if (cached.error().code != Errc::overloaded) {
      log::error("descriptors",
                 fmt::format("cannot look up a blob in the descriptor cache: {}", cached.error().message));
    }
    if (tracker_ != nullptr) tracker_->errors.add();
    co_return found;
  }
  if (tracker_ != nullptr) tracker_->misses.add();
  const bool first_hand = !first_hand_ || first_hand_();
  Result<void> set;
  if (first_hand) {
    set = co_await cache_->set_descriptor(digest, *found);
  } else {
    set = co_await cache_->set_second_hand(digest, *found);
  }
  log_unless_set(digest, set);
  co_return found;
}

runtime::Task<Result<void>> CachedBlobStatter::set_descriptor(oci::Digest digest, Entry entry) {
  const Result<void> set = co_await cache_->set_descriptor(digest, std::move(entry));
  log_unless_set(digest, set);
  co_return Result<void>();
}

runtime::Task<Result<void>> CachedBlobStatter::clear(oci::Digest digest) {
  Result<void> cleared = co_await cache_->clear(digest);
  if (!cleared) co_return cleared;
  co_return co_await backend_->clear(digest);
}

}  // namespace sluice::descriptors

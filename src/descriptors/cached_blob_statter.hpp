// CachedBlobStatter: a cache of descriptors in front of a backend that knows for certain. One joint of the chain
// memory or Redis -> catalog -> upstream.
//
//   cache answers    | backend   | counted               | cache afterwards
//   the descriptor   | not asked | request, hit          |
//   blob_unknown     | has it    | request, miss         | set (a failure is logged and swallowed); second-hand where
//                    |           |                       | the backend had it from its own memory
//   another error    | has it    | request, error, a log line | not set: the cache is in trouble already
//   not there        | error     | request               | the backend's error is returned; nothing negative is kept
//
// Threads: those of the two services. Made for each repository, or for each request; the counters are shared.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "base/metrics.hpp"
#include "descriptors/descriptor_service.hpp"

namespace sluice::descriptors {

// The counters of one joint: `sluice_descriptor_cache_{requests,hits,misses,errors}_total{provider,joint}`.
// `provider` is what the cache is ("memory", "redis", "catalog"), `joint` where in the chain ("front", "catalog").
// Made once at start-up, shared by all statters of the joint, thread-safe.
struct Tracker {
  Tracker(metrics::Registry& registry, std::string_view provider, std::string_view joint);

  // A hit that was found by BlobDescriptorCacheProvider::peek, without a statter.
  void count_peek() {
    requests.add();
    hits.add();
  }

  metrics::Counter& requests;
  metrics::Counter& hits;
  metrics::Counter& misses;
  metrics::Counter& errors;
};

class CachedBlobStatter final : public BlobDescriptorService {
 public:
  // Whether what the backend has just found was told by who decides; asked after each of its answers.
  using FirstHand = std::function<bool()>;

  // `tracker` may be null; it must outlive the statter and the tasks that it returned. Without `first_hand` the backend
  // is the one that decides.
  CachedBlobStatter(std::shared_ptr<BlobDescriptorService> cache, std::shared_ptr<BlobDescriptorService> backend,
                    Tracker* tracker, FirstHand first_hand = {});

  // The statter must live until the returned task is done.
  runtime::Task<Result<Entry>> stat(oci::Digest digest) override;
  // The cache alone, and always a success: what cannot be cached is asked for again.
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override;
  // The cache first; an error of it is returned before the backend is touched.
  runtime::Task<Result<void>> clear(oci::Digest digest) override;

 private:
  std::shared_ptr<BlobDescriptorService> cache_;
  std::shared_ptr<BlobDescriptorService> backend_;
  Tracker* tracker_;
  FirstHand first_hand_;
};

}  // namespace sluice::descriptors

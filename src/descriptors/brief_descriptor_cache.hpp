// BriefDescriptorCache: keeps what a provider that has to be waited for (Redis) says of repositories in memory, for so
// short a time that others may change their mind there. It makes peek() possible, so that a hot blob is answered for
// without suspending, and Redis is asked once in `ttl` for it and not for each request.
//
//   scoped stat    from memory, else from the provider; what it knows is kept, "unknown" is not
//   scoped set     both, memory first: what is set is true, whether the provider can be told or not
//   second-hand    memory; the provider decides for itself, and one that others read (Redis) does not take it
//   scoped clear   both; an answer that was on its way meanwhile is not kept. What another process has cleared is seen
//                  when what is here has run out, so after `ttl` at the latest
//   global         passed through
//
// Bounded in number and evicted by SIEVE; an entry takes a kilobyte at the very most.
//
// Threads: any, as the provider's. The provider outlives the views.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>

#include "base/clock.hpp"
#include "descriptors/descriptor_service.hpp"

namespace sluice::descriptors {

class BriefDescriptorCache final : public BlobDescriptorCacheProvider {
 public:
  struct Params {
    std::chrono::milliseconds ttl{1'000};
    // 0 is unlimited.
    std::size_t max_entries = 10'000;
  };

  // `clock` must outlive it and its views.
  BriefDescriptorCache(const Params& params, std::unique_ptr<BlobDescriptorCacheProvider> provider, const Clock& clock);
  ~BriefDescriptorCache() override;
  BriefDescriptorCache(const BriefDescriptorCache&) = delete;
  BriefDescriptorCache& operator=(const BriefDescriptorCache&) = delete;

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override { return provider_->stat(digest); }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override {
    return provider_->set_descriptor(digest, std::move(entry));
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override { return provider_->clear(digest); }
  Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) override;
  // Of repositories; the global scope is not kept.
  [[nodiscard]] std::optional<Entry> peek(const Scope& scope, const oci::Digest& digest) override;
  [[nodiscard]] Clock::Monotonic peek_holds_until(const Scope& scope, const oci::Digest& digest) override;

  void forget_all() override;

  void close() override { provider_->close(); }

  [[nodiscard]] std::size_t entries() const;

 private:
  class Table;
  class Scoped;
  const std::unique_ptr<BlobDescriptorCacheProvider> provider_;
  const std::shared_ptr<Table> table_;
};

}  // namespace sluice::descriptors

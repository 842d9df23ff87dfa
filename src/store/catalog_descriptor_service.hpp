// The descriptor cache over the store: persistent memberships, and globally every blob at rest.
//
// It follows the memory provider's rules (descriptors/memory_descriptor_cache.hpp). What it is told of two names of one
// content has been verified (access/blob_access.hpp), so it may be believed. Thread-safe, never suspends, no
// I/O. The store outlives it and the views it gives.
#pragma once

#include "descriptors/descriptor_service.hpp"

namespace sluice::store {

class BlobStore;

class CatalogDescriptorService final : public descriptors::BlobDescriptorCacheProvider {
 public:
  explicit CatalogDescriptorService(BlobStore& store) : store_(store) {}

  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override;
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry entry) override;
  // Forgets what was set; a blob at rest is known nevertheless.
  runtime::Task<Result<void>> clear(oci::Digest digest) override;
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> repository_scoped(std::string_view repository) override;
  [[nodiscard]] std::optional<descriptors::Entry> peek(const descriptors::Scope& scope,
                                                       const oci::Digest& digest) override;

  // The same as set_descriptor in a scope, without a coroutine. `checked_at` becomes now.
  Result<void> set_now(const descriptors::Scope& scope, const oci::Digest& digest, const oci::Descriptor& descriptor);

  // What is known of that repository alone, and not that some repository has it.
  Result<void> set_in_scope(const descriptors::Scope& scope, const oci::Digest& digest,
                            const oci::Descriptor& descriptor);

  // Whoever says so has computed both digests of the same bytes. Replaces what was known globally of `digest`.
  Result<void> set_canonical(const oci::Digest& digest, const oci::Descriptor& canonical);

 private:
  class Scoped;
  BlobStore& store_;
};

}  // namespace sluice::store

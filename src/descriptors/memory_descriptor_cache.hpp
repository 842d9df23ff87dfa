// The memory provider: descriptors by (scope, digest), bounded in number, evicted by SIEVE. Names and media types are
// bounded too (kMaxScopeBytes, RFC 6838), so an entry takes a kilobyte at the very most, and mostly a fifth of that.
//
//   scoped set    overwrites the scope's entry, then the global one only if there is none; when the descriptor is
//                 canonical under another algorithm, that digest is added globally as well
//   global set    only if there is none: what one repository said first is not changed by another
//   scoped clear  the scope's entry alone, and a success when there is none; the global one survives
//
// Thread-safe; a call holds one short lock of a shard. No call suspends. A scoped view may outlive the provider.
#pragma once

#include <cstddef>
#include <memory>

#include "descriptors/descriptor_service.hpp"

namespace sluice::descriptors {

class MemoryDescriptorCache final : public BlobDescriptorCacheProvider {
 public:
  struct Params {
    // How many entries, over all scopes. 0 is unlimited.
    std::size_t max_entries = 10'000;
  };

  explicit MemoryDescriptorCache(const Params& params);
  MemoryDescriptorCache() : MemoryDescriptorCache(Params{}) {}
  ~MemoryDescriptorCache() override;
  MemoryDescriptorCache(const MemoryDescriptorCache&) = delete;
  MemoryDescriptorCache& operator=(const MemoryDescriptorCache&) = delete;

  runtime::Task<Result<Entry>> stat(oci::Digest digest) override;
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override;
  runtime::Task<Result<void>> clear(oci::Digest digest) override;
  Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) override;

  void forget_all() override;

  // Exact: nothing means blob_unknown.
  [[nodiscard]] std::optional<Entry> peek(const Scope& scope, const oci::Digest& digest) override;

  // The same as the tasks, without a coroutine.
  Result<void> set_now(const Scope& scope, const oci::Digest& digest, const Entry& entry);
  void clear_now(const Scope& scope, const oci::Digest& digest);

  [[nodiscard]] std::size_t entries() const;

 private:
  class Table;
  class Scoped;
  std::shared_ptr<Table> table_;
};

}  // namespace sluice::descriptors

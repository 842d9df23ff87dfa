// The cache for none: knows nothing, keeps nothing, never fails. Thread-safe.
#pragma once

#include "descriptors/descriptor_service.hpp"

namespace sluice::descriptors {

class NullDescriptorCache final : public BlobDescriptorCacheProvider {
 public:
  runtime::Task<Result<Entry>> stat(oci::Digest digest) override;
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, Entry entry) override;
  runtime::Task<Result<void>> clear(oci::Digest digest) override;
  Result<std::shared_ptr<BlobDescriptorService>> repository_scoped(std::string_view repository) override;
};

}  // namespace sluice::descriptors

#include "descriptors/null_descriptor_cache.hpp"

namespace sluice::descriptors {

runtime::Task<Result<Entry>> NullDescriptorCache::stat(oci::Digest /*digest*/) { co_return Error(Errc::blob_unknown); }

runtime::Task<Result<void>> NullDescriptorCache::set_descriptor(oci::Digest /*digest*/, Entry entry) {
  co_return oci::validate(entry);
}

runtime::Task<Result<void>> NullDescriptorCache::clear(oci::Digest /*digest*/) { co_return Result<void>(); }

Result<std::shared_ptr<BlobDescriptorService>> NullDescriptorCache::repository_scoped(std::string_view repository) {
  const Result<Scope> scope = Scope::repository(repository);
  if (!scope) return scope.error();
  return std::shared_ptr<BlobDescriptorService>(std::make_shared<NullDescriptorCache>());
}

}  // namespace sluice::descriptors

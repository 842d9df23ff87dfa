#include "upstream/offline_registry.hpp"

namespace sluice::upstream {

using runtime::Task;

Error OfflineRegistry::offline() const { return {Errc::upstream_down, name_ + " is not asked (offline)"}; }

Task<Result<oci::Descriptor>> OfflineRegistry::stat_blob(oci::Repository, oci::Digest) { co_return offline(); }

Task<Result<std::unique_ptr<BlobBody>>> OfflineRegistry::open_blob(oci::Repository, oci::Digest, std::uint64_t) {
  co_return offline();
}

Task<Result<ManifestAnswer>> OfflineRegistry::get_manifest(oci::Repository, oci::Reference, std::string) {
  co_return offline();
}

Task<Result<ManifestHead>> OfflineRegistry::stat_manifest(oci::Repository, oci::Reference, std::string) {
  co_return offline();
}

Task<Result<ListAnswer>> OfflineRegistry::list(oci::Repository, std::string) { co_return offline(); }

Task<Result<void>> OfflineRegistry::ping() { co_return offline(); }

std::shared_ptr<Registry> OfflineRegistry::on_behalf_of(std::string) {
  return std::make_shared<OfflineRegistry>(name_);
}

}  // namespace sluice::upstream

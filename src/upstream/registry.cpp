#include "upstream/registry.hpp"

namespace sluice::upstream {

Rights Registry::rights(const oci::Repository&) const { return Rights::client_login; }

runtime::Task<Result<std::unique_ptr<BlobBody>>> Registry::open_blob_range(oci::Repository, oci::Digest, std::uint64_t,
                                                                           std::uint64_t) {
  co_return Error(Errc::unsupported, "this upstream gives out no ranges");
}

runtime::Task<Result<ListAnswer>> Registry::list(oci::Repository, std::string) {
  co_return Error(Errc::unsupported, "this upstream does not list");
}

std::shared_ptr<Registry> Registry::on_behalf_of(std::string) { return nullptr; }

std::shared_ptr<Registry> Registry::behind_others(std::shared_ptr<Urgency>) { return nullptr; }

std::chrono::milliseconds Registry::throttled_for(const oci::Repository&, const oci::Reference&) const {
  return std::chrono::milliseconds(0);
}

std::shared_ptr<Registry> Registry::asking_for(Asker) { return nullptr; }

void Registry::note_claimed_size(const oci::Digest&, std::uint64_t) {}
void Registry::note_mismatch(const oci::Digest&) {}

}  // namespace sluice::upstream

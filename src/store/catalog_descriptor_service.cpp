#include "store/catalog_descriptor_service.hpp"

#include <utility>

#include "store/blob_store.hpp"

namespace sluice::store {

using descriptors::Scope;

class CatalogDescriptorService::Scoped final : public descriptors::BlobDescriptorService {
 public:
  Scoped(BlobStore& store, Scope scope) : store_(store), scope_(std::move(scope)) {}

  runtime::Task<Result<descriptors::Entry>> stat(oci::Digest digest) override {
    std::optional<descriptors::Entry> found = CatalogDescriptorService(store_).peek(scope_, digest);
    if (!found) co_return Error(Errc::blob_unknown);
    co_return std::move(*found);
  }
  runtime::Task<Result<void>> set_descriptor(oci::Digest digest, descriptors::Entry entry) override {
    co_return CatalogDescriptorService(store_).set_now(scope_, digest, entry);
  }
  runtime::Task<Result<void>> clear(oci::Digest digest) override {
    store_.catalog().clear_membership(scope_, digest);
    co_return Result<void>();
  }

 private:
  BlobStore& store_;
  Scope scope_;
};

std::optional<descriptors::Entry> CatalogDescriptorService::peek(const Scope& scope, const oci::Digest& digest) {
  if (scope.is_global()) {
    if (const std::optional<Stored> stored = store_.find(digest)) {
      return oci::Descriptor{digest, stored->size, std::string(stored->media_type)};
    }
  }
  std::optional<Membership> found = store_.catalog().membership(scope, digest);
  if (!found) return std::nullopt;
  return descriptors::Entry(std::move(found->descriptor), found->checked_at);
}

Result<void> CatalogDescriptorService::set_now(const Scope& scope, const oci::Digest& digest,
                                               const oci::Descriptor& descriptor) {
  if (Result<void> valid = oci::validate(descriptor); !valid) return valid;
  Catalog& catalog = store_.catalog();
  if (!scope.is_global()) catalog.set_membership(scope, digest, descriptor);
  // Globally only what is not known yet; a blob at rest needs no row of its own.
  if (store_.find(digest) || !catalog.add_membership(Scope(), digest, descriptor)) return {};
  if (digest.algorithm() != descriptor.digest.algorithm() && !store_.find(descriptor.digest)) {
    catalog.add_membership(Scope(), descriptor.digest, descriptor);
  }
  return {};
}

Result<void> CatalogDescriptorService::set_in_scope(const Scope& scope, const oci::Digest& digest,
                                                    const oci::Descriptor& descriptor) {
  if (Result<void> valid = oci::validate(descriptor); !valid) return valid;
  store_.catalog().set_membership(scope, digest, descriptor);
  return {};
}

Result<void> CatalogDescriptorService::set_canonical(const oci::Digest& digest, const oci::Descriptor& canonical) {
  if (Result<void> valid = oci::validate(canonical); !valid) return valid;
  store_.catalog().set_membership(Scope(), digest, canonical);
  return {};
}

runtime::Task<Result<descriptors::Entry>> CatalogDescriptorService::stat(oci::Digest digest) {
  std::optional<descriptors::Entry> found = peek(Scope(), digest);
  if (!found) co_return Error(Errc::blob_unknown);
  co_return std::move(*found);
}

runtime::Task<Result<void>> CatalogDescriptorService::set_descriptor(oci::Digest digest, descriptors::Entry entry) {
  co_return set_now(Scope(), digest, entry);
}

runtime::Task<Result<void>> CatalogDescriptorService::clear(oci::Digest digest) {
  store_.catalog().clear_membership(Scope(), digest);
  co_return Result<void>();
}

Result<std::shared_ptr<descriptors::BlobDescriptorService>> CatalogDescriptorService::repository_scoped(
    std::string_view repository) {
  Result<Scope> scope = Scope::repository(repository);
  if (!scope) return scope.error();
  return std::shared_ptr<descriptors::BlobDescriptorService>(std::make_shared<Scoped>(store_, std::move(*scope)));
}

}  // namespace sluice::store

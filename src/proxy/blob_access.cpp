#include "proxy/blob_access.hpp"

#include "oci/media_type.hpp"

namespace sluice::proxy {
namespace {

std::string key_of(const descriptors::Scope& scope, const oci::Digest& digest) {
  std::string key = scope.str();
  key.append("@").append(digest.to_string());
  return key;
}

}  // namespace

bool is_verdict(Errc code) noexcept {
  return code == Errc::unauthorized || code == Errc::denied || code == Errc::blob_unknown || code == Errc::name_unknown;
}

// The end of the chain. It keeps nothing: what stands before it does.
class BlobAccess::UpstreamStatter final : public descriptors::BlobDescriptorService {
 public:
  UpstreamStatter(BlobAccess& access, Route route) : access_(access), route_(std::move(route)) {}

  runtime::Task<Result<oci::Descriptor>> stat(oci::Digest digest) override {
    asked_ = true;
    return access_.ask_upstream(route_, digest);
  }
  [[nodiscard]] bool asked() const noexcept { return asked_; }
  runtime::Task<Result<void>> set_descriptor(oci::Digest, oci::Descriptor) override { co_return Result<void>{}; }
  runtime::Task<Result<void>> clear(oci::Digest) override { co_return Result<void>{}; }

 private:
  BlobAccess& access_;
  const Route route_;
  bool asked_ = false;
};

BlobAccess::BlobAccess(Params params, descriptors::BlobDescriptorCacheProvider& front,
                       store::CatalogDescriptorService& catalog, const Clock& clock, runtime::TaskGroup& group,
                       metrics::Registry& registry)
    : front_(front),
      catalog_(catalog),
      front_tracker_(registry, params.front_name, "front"),
      catalog_tracker_(registry, "catalog", "catalog"),
      negative_(params.negative, clock),
      flights_(group) {}

std::optional<oci::Descriptor> BlobAccess::peek(const descriptors::Scope& scope, const oci::Digest& digest) {
  std::optional<oci::Descriptor> found = front_.peek(scope, digest);
  if (found) front_tracker_.count_peek();
  return found;
}

runtime::Task<Result<oci::Descriptor>> BlobAccess::stat_known(descriptors::Scope scope, oci::Digest digest) {
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(scope.str());
  if (!front) co_return front.error();
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> catalog = catalog_.repository_scoped(scope.str());
  if (!catalog) co_return catalog.error();
  descriptors::CachedBlobStatter statter(*front, *catalog, &front_tracker_);
  co_return co_await statter.stat(digest);
}

runtime::Task<Result<BlobAccess::Known>> BlobAccess::stat(Route route, oci::Digest digest) {
  if (known_unknown(route.scope, digest)) {
    co_return Error{Errc::blob_unknown, "upstream said a moment ago that it does not have " + digest.to_string()};
  }
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(route.scope.str());
  if (!front) co_return front.error();
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> catalog = catalog_.repository_scoped(route.scope.str());
  if (!catalog) co_return catalog.error();
  auto upstream = std::make_shared<UpstreamStatter>(*this, route);
  auto behind = std::make_shared<descriptors::CachedBlobStatter>(*catalog, upstream, &catalog_tracker_);
  descriptors::CachedBlobStatter statter(*front, behind, &front_tracker_);
  Result<oci::Descriptor> found = co_await statter.stat(digest);
  if (found) co_return Known{std::move(*found), upstream->asked()};
  if (found.error().code == Errc::blob_unknown) remember_unknown(route.scope, digest);
  co_return found.error();
}

runtime::Task<Result<oci::Descriptor>> BlobAccess::ask_upstream(Route route, oci::Digest digest) {
  upstream::Registry* const registry = route.registry;
  const oci::Repository repository = route.repository;
  runtime::SingleFlight<std::string, oci::Descriptor>::Work work = [registry, repository, digest] {
    return registry->stat_blob(repository, digest);
  };
  auto outcome = co_await flights_.run(key_of(route.scope, digest), std::move(work));
  co_return std::move(outcome.result);
}

runtime::Task<void> BlobAccess::remember(descriptors::Scope scope, oci::Descriptor descriptor) {
  // Only manifests are told apart. What else strangers call their layers would fill the table of types.
  if (!oci::is_manifest(descriptor.media_type)) descriptor.media_type = oci::media_type::kOctetStream;
  negative_.erase(key_of(scope, descriptor.digest));
  const Result<void> kept = catalog_.set_now(scope, descriptor.digest, descriptor);
  static_cast<void>(kept);  // What cannot be kept is asked for again.
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(scope.str());
  if (!front) co_return;
  const oci::Digest digest = descriptor.digest;
  const Result<void> cached = co_await (*front)->set_descriptor(digest, std::move(descriptor));
  static_cast<void>(cached);
}

void BlobAccess::remember_unknown(const descriptors::Scope& scope, const oci::Digest& digest) {
  negative_.add(key_of(scope, digest));
}

bool BlobAccess::known_unknown(const descriptors::Scope& scope, const oci::Digest& digest) {
  return negative_.contains(key_of(scope, digest));
}

}  // namespace sluice::proxy

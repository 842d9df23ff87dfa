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
  const Revocations::Ticket ticket = revocations_.begin();
  descriptors::CachedBlobStatter statter(*front, *catalog, &front_tracker_);
  Result<oci::Descriptor> found = co_await statter.stat(digest);
  if (revoked(ticket, scope, digest)) {
    // What the catalog said before the removal may have reached the front after it.
    const Result<void> dropped = co_await drop(scope, digest);
    static_cast<void>(dropped);
    co_return Error{Errc::blob_unknown};
  }
  co_return found;
}

runtime::Task<Result<BlobAccess::Known>> BlobAccess::stat(Route route, oci::Digest digest) {
  if (known_unknown(route.scope, digest)) {
    co_return Error{Errc::blob_unknown, "upstream said a moment ago that it does not have " + digest.to_string()};
  }
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(route.scope.str());
  if (!front) co_return front.error();
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> catalog = catalog_.repository_scoped(route.scope.str());
  if (!catalog) co_return catalog.error();
  const Revocations::Ticket ticket = revocations_.begin();
  auto upstream = std::make_shared<UpstreamStatter>(*this, route);
  auto behind = std::make_shared<descriptors::CachedBlobStatter>(*catalog, upstream, &catalog_tracker_);
  descriptors::CachedBlobStatter statter(*front, behind, &front_tracker_);
  Result<oci::Descriptor> found = co_await statter.stat(digest);
  if (found) {
    if (revoked(ticket, route.scope, digest)) {
      const Result<void> dropped = co_await drop(route.scope, digest);
      static_cast<void>(dropped);
    }
    co_return Known{std::move(*found), upstream->asked()};
  }
  if (found.error().code == Errc::blob_unknown) remember_unknown(route.scope, digest);
  co_return found.error();
}

runtime::Task<Result<oci::Descriptor>> BlobAccess::ask_upstream(Route route, oci::Digest digest) {
  upstream::Registry* const registry = route.registry;
  const oci::Repository repository = route.repository;
  runtime::SingleFlight<std::string, oci::Descriptor>::Work work = [registry, repository, digest] {
    return registry->stat_blob(repository, digest);
  };
  std::string key = key_of(route.scope, digest);
  key.append(" ").append(std::to_string(revocations_.epoch()));
  auto outcome = co_await flights_.run(std::move(key), std::move(work));
  co_return std::move(outcome.result);
}

runtime::Task<void> BlobAccess::remember(descriptors::Scope scope, oci::Descriptor descriptor,
                                         const Revocations::Ticket& ticket) {
  if (revoked(ticket, scope, descriptor.digest)) co_return;
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
  if (!revoked(ticket, scope, digest)) co_return;
  const Result<void> dropped = co_await drop(scope, digest);
  static_cast<void>(dropped);
}

bool BlobAccess::revoked(const Revocations::Ticket& ticket, const descriptors::Scope& scope,
                         const oci::Digest& digest) const {
  return revocations_.revoked(ticket, key_of(scope, digest));
}

// The front first: when it cannot be told (Redis is down), it would go on saying that the repository has the blob.
runtime::Task<Result<void>> BlobAccess::drop(descriptors::Scope scope, oci::Digest digest) {
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> front = front_.repository_scoped(scope.str());
  if (!front) co_return front.error();
  const Result<void> cleared = co_await (*front)->clear(digest);
  if (!cleared && cleared.error().code != Errc::blob_unknown) co_return cleared.error();
  Result<std::shared_ptr<descriptors::BlobDescriptorService>> catalog = catalog_.repository_scoped(scope.str());
  if (!catalog) co_return catalog.error();
  co_return co_await (*catalog)->clear(digest);
}

runtime::Task<Result<void>> BlobAccess::forget(descriptors::Scope scope, oci::Digest digest) {
  const std::string key = key_of(scope, digest);
  revocations_.revoke(key);
  negative_.erase(key);
  co_return co_await drop(std::move(scope), digest);
}

runtime::Task<void> BlobAccess::forget_globally(oci::Digest digest) {
  // Nobody is let in by these.
  const Result<void> front = co_await front_.clear(digest);
  static_cast<void>(front);
  const Result<void> catalog = co_await catalog_.clear(digest);
  static_cast<void>(catalog);
}

void BlobAccess::remember_unknown(const descriptors::Scope& scope, const oci::Digest& digest) {
  negative_.add(key_of(scope, digest));
}

bool BlobAccess::known_unknown(const descriptors::Scope& scope, const oci::Digest& digest) {
  return negative_.contains(key_of(scope, digest));
}

}  // namespace sluice::proxy

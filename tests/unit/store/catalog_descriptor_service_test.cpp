#include "store/catalog_descriptor_service.hpp"
#include "support/descriptor_contract.hpp"
#include "unit/store/store_fixture.hpp"

using namespace sluice;
using store::CatalogDescriptorService;
using store::Scope;
using test::StoreFixture;

namespace {

// A provider with the store that it stands on.
struct Standing {
  StoreFixture fixture;
  std::unique_ptr<CatalogDescriptorService> service;
};

std::shared_ptr<descriptors::BlobDescriptorCacheProvider> make() {
  auto standing = std::make_shared<Standing>();
  standing->service = std::make_unique<CatalogDescriptorService>(standing->fixture.open());
  return {standing, standing->service.get()};
}

}  // namespace

TEST_CASE("CatalogDescriptorService: contract", "[store][descriptors]") { test::check_descriptor_contract(make); }

TEST_CASE("CatalogDescriptorService: what is at rest is known globally and to nobody in particular",
          "[store][descriptors]") {
  StoreFixture fixture;
  CatalogDescriptorService service(fixture.open());
  REQUIRE(fixture.fill("abc", "application/json"));
  const oci::Digest digest = test::sha256_of("abc");
  const auto scoped = service.repository_scoped("docker.io/a").value();
  CHECK(fixture.run(service.stat(digest)).value() == oci::Descriptor{digest, 3, "application/json"});
  CHECK(test::code_of(fixture.run(scoped->stat(digest))) == "blob_unknown");

  // A membership adds no row for the global scope, which the blob itself stands for.
  REQUIRE(fixture.run(scoped->set_descriptor(digest, {digest, 3, "text/plain"})));
  CHECK(fixture.run(scoped->stat(digest)).value().media_type == "text/plain");
  CHECK_FALSE(fixture.store->catalog().membership(Scope(), digest));
  CHECK(fixture.run(service.stat(digest)).value().media_type == "application/json");

  // It cannot be cleared away while it is there.
  CHECK(fixture.run(service.clear(digest)));
  CHECK(fixture.run(service.stat(digest)));
  REQUIRE(fixture.run(fixture.store->remove(digest)));
  CHECK(test::code_of(fixture.run(service.stat(digest))) == "blob_unknown");
  // Upstream still has it.
  CHECK(fixture.run(scoped->stat(digest)));
}

TEST_CASE("CatalogDescriptorService: memberships survive a restart, revoked ones do not come back",
          "[store][descriptors]") {
  StoreFixture fixture;
  const oci::Digest kept = test::sha256_of("kept");
  const oci::Digest revoked = test::sha256_of("revoked");
  {
    CatalogDescriptorService service(fixture.open());
    const auto scoped = service.repository_scoped("docker.io/a").value();
    REQUIRE(fixture.run(scoped->set_descriptor(kept, {kept, 4, "a/b"})));
    REQUIRE(fixture.run(scoped->set_descriptor(revoked, {revoked, 7, "a/b"})));
    REQUIRE(fixture.run(scoped->clear(revoked)));
    CHECK(fixture.run(scoped->clear(revoked)));
    // The global one survives.
    CHECK(fixture.run(service.stat(revoked)));
  }
  CatalogDescriptorService service(fixture.reopen());
  const auto scoped = service.repository_scoped("docker.io/a").value();
  CHECK(fixture.run(scoped->stat(kept)).value() == oci::Descriptor{kept, 4, "a/b"});
  CHECK(test::code_of(fixture.run(scoped->stat(revoked))) == "blob_unknown");
  CHECK(service.peek(Scope::repository("docker.io/a").value(), kept));
}

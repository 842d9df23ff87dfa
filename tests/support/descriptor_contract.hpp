// What every BlobDescriptorCacheProvider must do, as one suite that each provider's test runs:
//
//   TEST_CASE("MemoryDescriptorCache: contract", "[descriptors]") {
//     sluice::test::check_descriptor_contract([] { return std::make_shared<MemoryDescriptorCache>(); });
//   }
//
// `make` returns a fresh, empty provider; it is called once for each part. Include it in one test source of a binary.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include <catch2/catch.hpp>

#include "descriptors/descriptor_service.hpp"
#include "support/catch_result.hpp"
#include "support/code_of.hpp"
#include "support/run_task.hpp"

namespace sluice::test {

using MakeProvider = std::function<std::shared_ptr<descriptors::BlobDescriptorCacheProvider>()>;

inline oci::Digest digest_named(std::string_view text, oci::Algorithm algorithm = oci::Algorithm::sha256) {
  return oci::digest_of(algorithm, text);
}

inline oci::Descriptor descriptor_of(const oci::Digest& digest, std::uint64_t size = 10,
                                     std::string media_type = "application/octet-stream") {
  return oci::Descriptor{digest, size, std::move(media_type)};
}

class DescriptorContract {
 public:
  explicit DescriptorContract(MakeProvider make) : provider_(make()) {
    a_ = provider_->repository_scoped("docker.io/library/a").value();
    b_ = provider_->repository_scoped("docker.io/library/b").value();
  }

  void empty() {
    CHECK(code_of(run_(provider_->stat(digest_named("none", oci::Algorithm::sha384)))) == "blob_unknown");
    CHECK(code_of(run_(provider_->stat(digest_named("none")))) == "blob_unknown");
    CHECK(code_of(run_(a_->stat(digest_named("none")))) == "blob_unknown");
    CHECK(code_of(provider_->repository_scoped("")) == "name_invalid");
    CHECK(code_of(provider_->repository_scoped(std::string(1000, 'a'))) == "name_invalid");
    CHECK(code_of(provider_->repository_scoped("docker.io/with space")) == "name_invalid");

    // What is not a descriptor is not kept.
    const oci::Digest digest = digest_named("no type");
    CHECK_FALSE(run_(a_->set_descriptor(digest, descriptor_of(digest, 1, ""))));
    CHECK_FALSE(run_(provider_->set_descriptor(digest, descriptor_of(digest, 1, ""))));
    CHECK_FALSE(run_(a_->set_descriptor(digest, descriptor_of(digest, std::uint64_t{1} << 63U))));
    CHECK(code_of(run_(a_->stat(digest))) == "blob_unknown");
    CHECK(code_of(run_(provider_->stat(digest))) == "blob_unknown");
  }

  void set_and_read() {
    const oci::Digest local = digest_named("content", oci::Algorithm::sha384);
    const oci::Digest canonical = digest_named("content");
    const oci::Descriptor expected = descriptor_of(canonical);

    REQUIRE(run_(a_->set_descriptor(local, expected)));
    CHECK(run_(a_->stat(local)).value() == expected);
    CHECK(run_(provider_->stat(local)).value() == expected);
    CHECK(run_(provider_->stat(canonical)).value() == expected);
    // The canonical digest was added globally only.
    CHECK(code_of(run_(a_->stat(canonical))) == "blob_unknown");

    // Another type in one scope changes that scope alone.
    const oci::Descriptor changed = descriptor_of(canonical, 10, "application/json");
    REQUIRE(run_(a_->set_descriptor(local, changed)));
    CHECK(run_(a_->stat(local)).value() == changed);
    CHECK(run_(provider_->stat(local)).value() == expected);
    CHECK(run_(provider_->stat(canonical)).value() == expected);

    // And back from an alias to the digest itself.
    const oci::Descriptor itself = descriptor_of(local, 11);
    REQUIRE(run_(a_->set_descriptor(local, itself)));
    CHECK(run_(a_->stat(local)).value() == itself);
  }

  void scopes() {
    const oci::Digest digest = digest_named("scoped");
    const oci::Descriptor expected = descriptor_of(digest, 1000, "application/vnd.oci.image.layer.v1.tar+gzip");
    REQUIRE(run_(a_->set_descriptor(digest, expected)));
    CHECK(run_(a_->stat(digest)).value() == expected);
    CHECK(run_(provider_->stat(digest)).value() == expected);
    // What one repository has is no other's.
    CHECK(code_of(run_(b_->stat(digest))) == "blob_unknown");
    // A second view of the same repository sees the same.
    CHECK(run_(provider_->repository_scoped("docker.io/library/a").value()->stat(digest)).value() == expected);

    // Globally, the first one stays.
    REQUIRE(run_(b_->set_descriptor(digest, descriptor_of(digest, 1000, "application/json"))));
    CHECK(run_(b_->stat(digest)).value().media_type == "application/json");
    CHECK(run_(provider_->stat(digest)).value() == expected);

    // What is set globally gives no repository access.
    const oci::Digest global = digest_named("global");
    REQUIRE(run_(provider_->set_descriptor(global, descriptor_of(global, 0))));
    CHECK(run_(provider_->stat(global)).value() == descriptor_of(global, 0));
    CHECK(code_of(run_(a_->stat(global))) == "blob_unknown");
  }

  void clear() {
    const oci::Digest local = digest_named("cleared", oci::Algorithm::sha512);
    const oci::Descriptor expected = descriptor_of(digest_named("cleared"));
    REQUIRE(run_(a_->set_descriptor(local, expected)));
    CHECK(run_(a_->stat(local)).value() == expected);
    REQUIRE(run_(a_->clear(local)));
    CHECK(code_of(run_(a_->stat(local))) == "blob_unknown");

    // Cleared in A stays cleared, whatever B is told afterwards.
    REQUIRE(run_(b_->set_descriptor(local, expected)));
    CHECK(code_of(run_(a_->stat(local))) == "blob_unknown");
    CHECK(run_(b_->stat(local)).value() == expected);

    const oci::Digest global = digest_named("cleared globally");
    REQUIRE(run_(provider_->set_descriptor(global, descriptor_of(global))));
    REQUIRE(run_(provider_->clear(global)));
    CHECK(code_of(run_(provider_->stat(global))) == "blob_unknown");
  }

  void peek() {
    const oci::Digest digest = digest_named("peeked");
    const descriptors::Scope scope = descriptors::Scope::repository("docker.io/library/a").value();
    CHECK_FALSE(provider_->peek(scope, digest));
    REQUIRE(run_(a_->set_descriptor(digest, descriptor_of(digest))));
    // A provider may not be able to tell at once; what it tells is what stat would say.
    if (const auto found = provider_->peek(scope, digest)) CHECK(*found == descriptor_of(digest));
    CHECK_FALSE(provider_->peek(descriptors::Scope::repository("docker.io/library/b").value(), digest));
  }

 private:
  RunTask run_;
  std::shared_ptr<descriptors::BlobDescriptorCacheProvider> provider_;
  std::shared_ptr<descriptors::BlobDescriptorService> a_;
  std::shared_ptr<descriptors::BlobDescriptorService> b_;
};

// What differs between providers (whether the global entry survives a scoped clear, whether clearing what is not there
// is an error) is left to their own tests.
inline void check_descriptor_contract(const MakeProvider& make) {
  SECTION("an empty cache knows nothing and refuses what makes no sense") { DescriptorContract(make).empty(); }
  SECTION("what was set is read, under the canonical digest too") { DescriptorContract(make).set_and_read(); }
  SECTION("repositories are kept apart") { DescriptorContract(make).scopes(); }
  SECTION("what was cleared is unknown") { DescriptorContract(make).clear(); }
  SECTION("peek says what stat says") { DescriptorContract(make).peek(); }
}

}  // namespace sluice::test
